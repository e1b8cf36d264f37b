"""The site: what MkDocs is told beyond mkdocs.yml. Pages keep the paths of the repository, so that their links stay."""
