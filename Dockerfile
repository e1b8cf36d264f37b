# The program mae-toolkit:  docker build -t mae-toolkit .
#                           docker run --rm --gpus all --shm-size 8g -v "$PWD:/data" mae-toolkit pretrain photos --out runs/photos
# For CPUs alone, a gigabyte instead of seven:
#                           docker build -t mae-toolkit --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
FROM python:3.12-slim AS build
WORKDIR /source
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE CHANGELOG.md CONTRIBUTING.md Makefile ./
COPY requirements requirements
COPY configs configs
COPY tools tools
COPY mae_toolkit mae_toolkit
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# Of the builds of torch on both indexes the one for CPUs alone is taken, where PyTorch's index of them is given.
ARG TORCH_INDEX=https://pypi.org/simple
# Comma-separated extras: det, seg, embed, explain, demo, onnx, labels, cluster.
ARG EXTRAS=labels
COPY requirements/ci.txt /constraints.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /constraints.txt --extra-index-url "$TORCH_INDEX" torch torchvision \
    && pip install --no-cache-dir --constraint /constraints.txt "$(echo /wheels/*.whl)[$EXTRAS]" \
    && rm -r /wheels
RUN useradd --create-home user
USER user
WORKDIR /data
ENTRYPOINT ["mae-toolkit"]
CMD ["--help"]
