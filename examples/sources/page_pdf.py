"""Make text PDFs (reportlab) and image-only PDFs (Pillow) with the same bytes every time."""

from __future__ import annotations

import html
import io
import random
from typing import Any

from page_source import HOSPITAL, Page, need, spans, tagged

THEMES: dict[str, tuple[str, str, str, float]] = {  # body font, bold font, accent, size
    "policy": ("Helvetica", "Helvetica-Bold", "#1f4e6b", 10.0),
    "handbook": ("Times-Roman", "Times-Bold", "#5a2d2d", 11.0),
    "sheet": ("Helvetica", "Helvetica-Bold", "#2f5d3a", 9.0),
}


def make_pdf(page: Page) -> bytes:
    """A text PDF with running header and footer; built twice to know the page count."""
    platypus, styles = need("reportlab.platypus"), need("reportlab.lib.styles")
    colors, size = need("reportlab.lib.colors"), need("reportlab.lib.pagesizes").A4
    font, bold, accent, points = THEMES[page.head.get("theme", "policy")]
    ink = colors.HexColor(accent)

    def style(name: str, **extra: Any) -> Any:
        base = {"fontName": font, "fontSize": points, "leading": points * 1.36, "spaceAfter": points * 0.6}
        return styles.ParagraphStyle(name, **{**base, **extra})

    body, cell = style("body"), style("cell", fontSize=points - 1, leading=(points - 1) * 1.25, spaceAfter=0)
    label = style("label", fontName=bold, fontSize=points - 1, leading=(points - 1) * 1.25, spaceAfter=0)
    listed = style("list", leftIndent=18, bulletIndent=4, spaceAfter=points * 0.3)
    noted = style(
        "note",
        leftIndent=14,
        rightIndent=14,
        borderColor=ink,
        borderWidth=0.6,
        borderPadding=6,
        spaceBefore=10,
        spaceAfter=14,
    )
    heads = {
        n: style(
            f"h{n}",
            fontName=bold,
            fontSize=points + (9, 4, 1)[n - 1],
            textColor=ink,
            keepWithNext=1,
            leading=(points + (9, 4, 1)[n - 1]) * 1.25,
            spaceBefore=points * (0, 1, 0.7)[n - 1],
        )
        for n in (1, 2, 3)
    }

    def story() -> list[Any]:
        flow: list[Any] = []
        mono = ('<font face="Courier">', "</font>")
        for block in page.blocks:
            if block.kind == "heading":
                flow.append(platypus.Paragraph(tagged(block.text, mono), heads[min(block.level, 3)]))
                if block.level == 1 and "meta" in page.head:
                    flow.append(platypus.Paragraph(f"<i>{html.escape(page.head['meta'])}</i>", body))
            elif block.kind in ("bullets", "numbers"):
                for number, item in enumerate(block.items, 1):
                    mark = "•" if block.kind == "bullets" else f"{number}."
                    flow.append(platypus.Paragraph(tagged(item, mono), listed, bulletText=mark))
                flow.append(platypus.Spacer(1, points * 0.4))
            elif block.kind == "table":
                flow += [pdf_table(block.rows), platypus.Spacer(1, points)]
            else:
                flow.append(platypus.Paragraph(tagged(block.text, mono), noted if block.kind == "quote" else body))
        return flow

    def pdf_table(rows: list[list[str]]) -> Any:
        longest = [max(6, min(46, max(len(row[n]) for row in rows))) for n in range(len(rows[0]))]
        words = [max(len(word) for row in rows for word in row[n].split() or [""]) for n in range(len(rows[0]))]
        want = [max(float(most), 1.5 * word) for most, word in zip(longest, words, strict=False)]
        widths = [(size[0] - 112) * part / sum(want) for part in want]
        looks = [label, *[cell] * (len(rows) - 1)]
        cells = [
            [platypus.Paragraph(tagged(text), look) for text in row] for look, row in zip(looks, rows, strict=True)
        ]
        rule = [
            ("GRID", (0, 0), (-1, -1), 0.5, colors.grey),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e4e9ec")),
        ]
        return platypus.Table(cells, colWidths=widths, repeatRows=1, style=rule)

    def render(total: int) -> tuple[bytes, int]:
        def frame(canvas: Any, doc: Any) -> None:
            canvas.saveState()
            canvas.setFont(font, 8)
            canvas.setFillColor(colors.HexColor("#444444"))
            canvas.drawString(56, size[1] - 36, page.head.get("header", page.head["title"]))
            canvas.drawRightString(size[0] - 56, size[1] - 36, page.head.get("code", ""))
            canvas.line(56, size[1] - 41, size[0] - 56, size[1] - 41)
            canvas.drawString(56, 30, page.head.get("footer", f"{HOSPITAL}, uncontrolled when printed"))
            canvas.drawRightString(size[0] - 56, 30, f"Page {doc.page} of {total}")
            canvas.restoreState()

        out = io.BytesIO()
        doc = platypus.SimpleDocTemplate(
            out,
            pagesize=size,
            leftMargin=50,
            rightMargin=50,
            topMargin=60,
            bottomMargin=55,
            invariant=1,
            pageCompression=0,
            title=page.head["title"],
            author=page.head["author"],
            lang="en-GB",
        )
        doc.build(story(), onFirstPage=frame, onLaterPages=frame)
        return out.getvalue(), doc.page

    return render(render(0)[1])[0]


def make_scan(page: Page) -> bytes:
    """An image-only PDF: the page drawn as a picture, turned a little and speckled."""
    image_module, draw_module = need("PIL.Image"), need("PIL.ImageDraw")
    fonts, canvas_module = need("PIL.ImageFont"), need("reportlab.pdfgen.canvas")
    size, utils = need("reportlab.lib.pagesizes").A4, need("reportlab.lib.utils")
    sheet = image_module.new("L", (1240, 1754), 247)
    draw, top = draw_module.Draw(sheet), 130
    for block in page.blocks:
        points = {1: 46, 2: 33}.get(block.level, 26)
        font = fonts.load_default(size=points)
        marks = [f"{n}.  " if block.kind == "numbers" else "-  " for n in range(1, len(block.items) + 1)]
        for text in [mark + item for mark, item in zip(marks, block.items, strict=False)] or [block.text]:
            line = ""
            for word in [*"".join(words for _, words in spans(text)).split(" "), "\n"]:
                if word == "\n" or draw.textlength(f"{line} {word}", font=font) > 980:
                    draw.text((130, top), line, font=font, fill=45)
                    line, top = word, top + round(points * 1.45)
                else:
                    line = f"{line} {word}" if line else word
        top += 20
    sheet = sheet.rotate(0.7, resample=image_module.Resampling.BICUBIC, fillcolor=240)
    noise = image_module.frombytes("L", sheet.size, random.Random(1907).randbytes(sheet.width * sheet.height))
    sheet = image_module.blend(sheet, noise, 0.07)
    picture, out = io.BytesIO(), io.BytesIO()
    sheet.save(picture, "JPEG", quality=55)
    canvas = canvas_module.Canvas(out, pagesize=size, invariant=1, pageCompression=0)
    canvas.setTitle("Scan")
    canvas.drawImage(utils.ImageReader(io.BytesIO(picture.getvalue())), 0, 0, size[0], size[1])
    canvas.showPage()
    canvas.save()
    return out.getvalue()
