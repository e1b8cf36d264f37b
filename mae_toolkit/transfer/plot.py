"""The plot of a table: a panel per task, the share of labels on x."""

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mae_toolkit.transfer.summary import columns

MARKERS = 'osD^vPX*'
SPREAD = 0.03  # between the points of neighboring encoders at one share, as a part of it


def draw(experiment, table, families, out):
    """Draw the first metric of every task into a PNG: mean and standard deviation over seeds.

    One color per family of encoders; from scratch dashed and hollow, pretrained solid.

    Args:
        experiment (Experiment), table (dict): See :func:`~mae_toolkit.transfer.summary.cells`.
        families (dict[str, str]): By the name of the encoder.
        out (Path): The PNG.
    """
    styles = _styles(experiment, families)
    count = len(experiment.tasks)
    figure = Figure(figsize=(1 + 4.2 * count, 4.2 + 0.22 * ((len(styles) + 1) // 2)), layout='constrained', dpi=110)
    panels = figure.subplots(1, count, squeeze=False)[0]
    for axes, task in zip(panels, experiment.tasks, strict=True):
        shown = [c for c in columns(experiment) if c.task == task.name and c.metric == task.metrics[0]]
        for i, source in enumerate(experiment.encoders):
            found = [(c.labels, table[source.name, c]) for c in shown if table[source.name, c].values]
            aside = 1 + SPREAD * (i - (len(experiment.encoders) - 1) / 2)
            x = [100 * share * aside for share, _ in found]
            spread = [cell.std or 0 for _, cell in found]
            axes.errorbar(x, [cell.mean for _, cell in found], spread, capsize=3, ms=5, lw=1.4, **styles[source.name])
        _label(axes, experiment, task)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=min(2 * count, 4, len(labels)), frameon=False)
    FigureCanvasAgg(figure).print_png(out, metadata={'Software': None})


def _label(axes, experiment, task):
    shares = [100 * share for share in sorted(experiment.labels)]
    axes.set_xscale('log')
    axes.set_xticks(shares, [f'{share:g}%' for share in shares])
    axes.minorticks_off()
    axes.set_xlim(shares[0] / 1.35, shares[-1] * 1.35)
    axes.set(title=_plain(task.name), xlabel='labels', ylabel=_plain(task.metrics[0].name))
    axes.grid(alpha=0.3)


def _styles(experiment, families):
    """Color by family, line by pretraining, marker by the place among those of one family and line."""
    colors = {family: colormaps['tab10'](i % 10) for i, family in enumerate(dict.fromkeys(families.values()))}
    styles, used = {}, {}
    for source in experiment.encoders:
        key = families[source.name], source.pretrained
        place = used[key] = used.get(key, -1) + 1
        styles[source.name] = {
            'color': colors[key[0]],
            'linestyle': '-' if source.pretrained else '--',
            'marker': MARKERS[place % len(MARKERS)],
            'markerfacecolor': colors[key[0]] if source.pretrained else 'white',
            'label': _plain(source.name),
        }
    return styles


def _plain(name):
    """A name in which Matplotlib finds no formula, and that the legend does not leave out."""
    name = name.replace('$', r'\$')
    return f' {name}' if name.startswith('_') else name
