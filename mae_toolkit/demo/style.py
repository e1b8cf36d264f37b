"""Colors, fonts and layout of the page: nothing is loaded from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio

FONTS = ('system-ui', '-apple-system', 'Segoe UI', 'Roboto', 'sans-serif')
MONO = ('ui-monospace', 'Consolas', 'monospace')
CSS = """
.gradio-container { width: 100% !important; max-width: 1120px !important; margin: 0 auto !important; }
.gradio-container main { width: 100%; max-width: none; }
footer { display: none !important; }
.pending { opacity: 1 !important; }
#title h1 { font-size: 1.75rem; line-height: 1.2; margin: 0.25rem 0; }
#title p { font-size: 1.05rem; margin: 0.25rem 0; }
.dark { --color-accent: var(--primary-400); }
#title .what { color: var(--body-text-color-subdued); font-size: 0.9rem; }
#status p { margin: 0.25rem 0; }
.problem {
  border-left: 4px solid #b3261e; padding: 0.5rem 0.75rem; margin: 0.5rem 0; background: #fdecea; color: #5f1410;
}
.dark .problem { background: #46211f; color: #ffdad6; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(185px, 1fr)); margin: 0.75rem 0; }
.figures.two { grid-template-columns: repeat(auto-fit, minmax(240px, 440px)); }
.figures.three { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0.5rem; }
.matches { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 2rem; }
.figures.one { grid-template-columns: minmax(0, 250px); }
.figures.one.large { grid-template-columns: minmax(0, 820px); }
.figures figure { margin: 0; }
.figures img { width: 100%; height: auto; display: block; image-rendering: pixelated; border-radius: 4px; }
.figures.smooth img { image-rendering: auto; }
.figures figcaption { font-size: 0.875rem; line-height: 1.35; margin-top: 0.3rem; overflow-wrap: anywhere; }
.numbers { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; margin: 0.75rem 0; }
.numbers > div { display: flex; flex-direction: column-reverse; justify-content: flex-end; max-width: 17rem; }
.numbers dt { font-size: 0.875rem; color: var(--body-text-color-subdued); }
.numbers dd { font-size: 1.6rem; font-weight: 600; margin: 0; font-variant-numeric: tabular-nums; }
.colorbar { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 0.5rem; font-size: 0.875rem; }
.colorbar .colors { width: 10rem; height: 0.9rem; border-radius: 3px; display: inline-block; }
@media (max-width: 600px) {
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.6rem; }
  .figures.two { grid-template-columns: minmax(0, 1fr); }
  .matches { grid-template-columns: minmax(0, 1fr); }
}
"""


def make_theme() -> gradio.themes.Base:
    """Make the theme: teal on gray, in the fonts of the system."""
    import gradio

    theme = gradio.themes.Base(
        primary_hue=gradio.themes.colors.teal,
        secondary_hue=gradio.themes.colors.teal,
        neutral_hue=gradio.themes.colors.slate,
        font=[gradio.themes.Font(name) for name in FONTS],
        font_mono=[gradio.themes.Font(name) for name in MONO],
    )
    return theme.set(
        body_text_color_subdued='*neutral_600',
        body_text_color_subdued_dark='*neutral_300',
        block_info_text_color='*neutral_600',
        block_info_text_color_dark='*neutral_300',
        block_label_text_color='*neutral_700',
        block_label_text_color_dark='*neutral_200',
        button_primary_background_fill='*primary_700',
        button_primary_background_fill_hover='*primary_800',
        button_primary_text_color='white',
        color_accent='*primary_700',
        slider_color='*primary_700',
        slider_color_dark='*primary_400',
    )
