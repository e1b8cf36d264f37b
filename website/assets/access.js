// For the keyboard and screen readers: boxes that scroll can be reached, and the search has a name.
addEventListener('load', () => {
  document.querySelector('.md-search')?.setAttribute('aria-label', 'Search')
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
