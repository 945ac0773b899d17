"""What mkdocs needs beside docs/: notebooks, pages of the top folder, and links out of docs/.

In the repository, a page of docs/ links to `../records/one.json`, so that the link works on GitHub and in
a checkout. The site has pages only: there such a link leads to GitHub. Links between pages stay.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FROM_TOP = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")


@event_priority(100)
def on_files(files: Files, config: Any) -> Files:
    """Add the notebooks and the pages of the top folder; first, so that plugins see them."""
    for path in (*(ROOT / name for name in FROM_TOP), *sorted((ROOT / "examples").glob("*.ipynb"))):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return the text with its links out of docs/ led to GitHub, and those to pages within the site."""
    top = page.file.src_uri in FROM_TOP

    def led(link: re.Match[str]) -> str:
        target = link[2]
        if top:
            # From the top folder, docs/x.md is the page x.md.
            target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        place = normpath((PurePosixPath(page.file.src_uri).parent / target).as_posix())
        if not place.startswith("../"):
            return f"{link[1]}{target}{link[3]}"
        place = place.removeprefix("../")
        if place in FROM_TOP:
            return f"{link[1]}{place}{link[3]}"
        kind = "tree" if (ROOT / place).is_dir() else "blob"
        return f"{link[1]}{config.repo_url}/{kind}/main/{place}{link[3]}"

    return LINK.sub(led, markdown)
