"""Put texts of users into Markdown and CSV so that they stay texts."""

import html

# They begin code, emphasis, links, images, cells and escapes; as entities they are only characters.
SPECIAL = {ord(character): f'&#{ord(character)};' for character in '\\`*[]|~$'}
FORMULA = ('=', '+', '-', '@')  # how spreadsheets know one


def escape_markdown(text: object) -> str:
    """Escape a text for a cell of a table: no HTML, no Markdown, one line."""
    line = ''.join(character if character.isprintable() else ' ' for character in str(text))
    return html.escape(line, quote=False).translate(SPECIAL)


def to_code(text: object) -> str:
    """Show a text as code in a cell of a table."""
    text = str(text)
    if text.isprintable() and text.strip() and not any(character in text for character in '`|\\'):
        return f'`{text}`'
    return f'<code>{escape_markdown(text)}</code>'


def escape_formula(value: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would run as a formula; numbers stay as they are."""
    if not isinstance(value, str) or not value.lstrip().startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
