// Wide tables scroll in a box of their own; the box can be reached by the keyboard.
addEventListener('load', () => {
  for (const box of document.querySelectorAll('.md-typeset__scrollwrap, .highlight pre > code')) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0
      if (box.tagName === 'DIV') {
        box.setAttribute('role', 'region')
        box.setAttribute('aria-label', 'Table, scrolls sideways')
      }
    }
  }
})
