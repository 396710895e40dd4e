"""The script that sorts a page's tables by a click on a heading."""

SORTING = """
const number = /^[-+−]?\\d[\\d.,]*(e[-+]?\\d+)?( ?%| s)?( ±.*| \\[.*| \\(.*)?$/i;
const measured = text => number.test(text) ? parseFloat(text.replace('−', '-').replaceAll(',', '')) : NaN;
function sort(head) {
  const table = head.closest('table'), body = table.tBodies[0], k = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute('aria-sort') !== 'ascending';
  for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const value = row => (row.children[k].dataset.value ?? row.children[k].textContent).trim();
  const compare = (one, other) => {
    const a = value(one), b = value(other), x = measured(a), y = measured(b);
    if ((a === '—') !== (b === '—')) return a === '—' ? 1 : -1;  // what is missing is last, either way
    return (up ? 1 : -1) * (isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y);
  };
  [...body.rows].sort(compare).forEach(row => body.append(row));
}
for (const head of document.querySelectorAll('th')) {
  head.tabIndex = 0; head.addEventListener('click', () => sort(head));
  head.addEventListener('keydown', event => event.key === 'Enter' && sort(head));
}
"""

SORTABLE = """
th { cursor: pointer; user-select: none; }
th:focus-visible { outline: 2px solid var(--link); }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
"""
