"""Build the example documents of the invented Thornquill General Hospital.

Every source is a Markdown file with a short ``key: value`` head. The ``files`` key
names the documents made from it; their endings choose the format (pdf, docx, html, md).

    python build_healthcare.py            write examples/documents/healthcare
    python build_healthcare.py --check    rebuild into a temporary folder and compare
"""

from __future__ import annotations

import argparse
import html
import io
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from page_pdf import make_pdf, make_scan
from page_source import HOSPITAL, Page, need, read_page, spans, tagged

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "healthcare"
TARGET = HERE.parent / "documents" / "healthcare"


def make_docx(page: Page) -> bytes:
    """A Word document with real heading and list styles and fixed dates."""
    document = need("docx").Document()
    props = document.core_properties
    props.title, props.author, props.last_modified_by = page.head["title"], page.head["author"], page.head["author"]
    props.created = props.modified = page.date
    props.revision, props.comments = 1, ""
    document.sections[0].header.paragraphs[0].text = page.head.get("header", HOSPITAL)
    document.sections[0].footer.paragraphs[0].text = page.head.get("footer", f"{HOSPITAL}, staff handbook")

    def write(paragraph: Any, text: str) -> None:
        for style, words in spans(text):
            run = paragraph.add_run(words)
            run.bold, run.italic = style == "b" or None, style == "i" or None
            if style == "code":
                run.font.name = "Courier New"

    for block in page.blocks:
        if block.kind == "heading":
            write(document.add_heading(level=min(block.level, 3)), block.text)
            if block.level == 1 and "meta" in page.head:
                document.add_paragraph().add_run(page.head["meta"]).italic = True
        elif block.kind in ("bullets", "numbers"):
            style = "List Bullet" if block.kind == "bullets" else "List Number"
            if block.kind == "numbers" and sum(b.kind == "numbers" for b in page.blocks) > 1:
                raise SystemExit(f"{page.head['title']}: one numbered list a Word document, or the count runs on")
            for item in block.items:
                write(document.add_paragraph(style=style), item)
        elif block.kind == "table":
            table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
            for at, row in enumerate(block.rows):
                for cell, text in zip(table.add_row().cells, row, strict=False):
                    write(cell.paragraphs[0], text if at else f"**{text}**")
            document.add_paragraph()
        else:
            write(document.add_paragraph(style="Intense Quote" if block.kind == "quote" else None), block.text)
    raw, out = io.BytesIO(), io.BytesIO()
    document.save(raw)
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
            new.writestr(info, old.read(name))
    return out.getvalue()


def make_html(page: Page, links: list[tuple[str, str]]) -> bytes:
    """An intranet page with navigation and footer, or a bare mail page."""
    parts: list[str] = []
    for block in page.blocks:
        if block.kind == "heading":
            parts.append(f"<h{block.level}>{tagged(block.text)}</h{block.level}>")
            if block.level == 1 and "meta" in page.head:
                parts.append(f'<p class="meta">{html.escape(page.head["meta"])}</p>')
        elif block.kind in ("bullets", "numbers"):
            tag = "ul" if block.kind == "bullets" else "ol"
            parts.append(f"<{tag}>\n" + "\n".join(f"  <li>{tagged(item)}</li>" for item in block.items) + f"\n</{tag}>")
        elif block.kind == "table":
            rows = [("th" if at == 0 else "td", row) for at, row in enumerate(block.rows)]
            lines = ["  <tr>" + "".join(f"<{tag}>{tagged(c)}</{tag}>" for c in row) + "</tr>" for tag, row in rows]
            parts.append("<table>\n" + "\n".join(lines) + "\n</table>")
        else:
            tag = "blockquote" if block.kind == "quote" else "p"
            parts.append(f"<{tag}>{tagged(block.text)}</{tag}>")
    template = (HERE / "healthcare" / f"{page.head.get('theme', 'intranet')}.html").read_text(encoding="utf-8")
    menu = "\n".join(f'      <li><a href="{name}">{html.escape(title)}</a></li>' for name, title in links)
    fill = {
        "title": html.escape(page.head["title"]),
        "menu": menu,
        "main": "\n".join(parts),
        "changed": page.head["date"],
        "author": html.escape(page.head["author"]),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fill[match[1]], template).encode()


def make_markdown(page: Page) -> bytes:
    """The body as it stands, with its meta line in italics or in a front matter head."""
    if page.head.get("theme") == "front-matter":
        kept = [key for key in ("title", "author", "date", "code") if key in page.head]
        keys = [f"{key}: {json.dumps(page.head[key], ensure_ascii=False)}" for key in kept]
        return ("---\n" + "\n".join(keys) + "\n---\n\n" + page.body).encode()
    if "meta" in page.head:
        title, _, rest = page.body.partition("\n")
        return f"{title}\n\n*{page.head['meta']}*\n{rest}".encode()
    return page.body.encode()


def build(target: Path) -> int:
    """Write all documents into the target folder and return how many there are."""
    target.mkdir(parents=True, exist_ok=True)
    pages = [read_page(path) for path in sorted(SOURCES.glob("*.md"))]
    made = [(name, page) for page in pages for name in page.head["files"].split()]
    links = [(name, page.head["title"]) for name, page in made if name.endswith(".html") and "theme" not in page.head]
    for name, page in made:
        ending = name.rpartition(".")[2]
        if ending == "html":
            data = make_html(page, links)
        elif ending == "pdf":
            data = make_scan(page) if page.head.get("theme") == "scan" else make_pdf(page)
        else:
            data = make_docx(page) if ending == "docx" else make_markdown(page)
        (target / name).write_bytes(data)
    return len(made)


def same(one: Path, two: Path) -> bool:
    """Equal bytes; for Word files equal members, whatever zlib packed them."""
    if one.suffix != ".docx" or one.read_bytes() == two.read_bytes():
        return one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as left, zipfile.ZipFile(two) as right:
        return left.namelist() == right.namelist() and all(left.read(n) == right.read(n) for n in left.namelist())


def main() -> int:
    """Build, or compare a fresh build with the committed documents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="rebuild into a temporary folder and compare")
    if not parser.parse_args().check:
        line, code = f"wrote {build(TARGET)} documents", 0
    else:
        with tempfile.TemporaryDirectory() as folder:
            count = build(Path(folder))
            fresh = {path.name: path for path in Path(folder).iterdir()}
            kept = {path.name: path for path in TARGET.iterdir()}
            odd = sorted(
                n for n in fresh.keys() | kept.keys() if n not in fresh or n not in kept or not same(fresh[n], kept[n])
            )
        line, code = f"{count} documents rebuilt, {len(odd)} differ {' '.join(odd)}".rstrip(), int(bool(odd))
    print(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
