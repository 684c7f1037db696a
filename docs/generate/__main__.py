"""`python -m docs.generate`: writes the pages of the stacks and the picture of the architecture."""

from __future__ import annotations

from pathlib import Path

from docs.generate import pages, picture
from ops.stacks import PROJECT_FOLDER, names, settings_of

DOCS_FOLDER = PROJECT_FOLDER / "docs"
_PICTURED = "prod"  # it has the most parts


def files() -> dict[Path, str]:
    """Return the text of each file, by its path in docs/."""
    stacks = {name: pages.known(settings_of(name)) for name in names()}
    return {
        Path("architecture.svg"): picture.svg(stacks[_PICTURED].graph, _PICTURED),
        Path("stacks/README.md"): pages.index(stack.settings for stack in stacks.values()),
        **{Path(f"stacks/{name}.md"): pages.page(stack) for name, stack in stacks.items()},
    }


def main() -> None:
    """Write the files, and take away pages of stacks that are gone."""
    made = files()
    for path in (DOCS_FOLDER / "stacks").glob("*.md"):
        if path.relative_to(DOCS_FOLDER) not in made:
            path.unlink()
    for name, text in made.items():
        (DOCS_FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
