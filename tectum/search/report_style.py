"""How a report looks: one style sheet, light and dark."""

STYLE = """
body { margin: 0; }
header.page, main, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.5rem; }
header.page { padding-top: 3rem; }
.summary { color: var(--soft); margin: .5rem 0 0; max-width: 46rem; }
section { margin: 2.5rem 0 0; padding-top: 1.5rem; border-top: 1px solid var(--line); }
.asked { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end; justify-content: space-between; }
h2 { display: flex; flex-wrap: wrap; gap: .9rem; align-items: center; margin: 0;
  font: 500 1.35rem/1.3 ui-serif, Georgia, serif; }
h2 q { quotes: "“" "”"; overflow-wrap: anywhere; }
h2 figure { margin: 0; font: 400 .8rem/1.4 system-ui, sans-serif; color: var(--soft); max-width: 20rem; }
h2 figure img { display: block; height: 7rem; width: auto; max-width: 100%; object-fit: contain; border-radius: 6px; }
h2 figcaption { overflow-wrap: anywhere; }
.plus { color: var(--soft); }
.count { color: var(--soft); font-size: .9rem; font-variant-numeric: tabular-nums; }
code { font: .85rem/1.6 ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--well); border-radius: 4px;
  padding: .15rem .4rem;
  overflow-wrap: anywhere; }
.nothing { margin: 1rem 0 0; padding: 1rem 1.25rem; background: var(--well); border-radius: 8px; color: var(--soft); }
.nothing strong { color: var(--ink); }
.hits { list-style: none; margin: 1.25rem 0 0; padding: 0; display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; display: flex;
  flex-direction: column; }
.shown { background: var(--well); height: 11rem; display: flex; align-items: center; justify-content: center;
  overflow: hidden; }
.shown img { max-width: 100%; max-height: 100%; width: auto; height: auto; object-fit: contain; }
.card .missing { color: var(--soft); font-size: .9rem; }
blockquote { margin: 0; padding: 1rem 1.1rem; align-self: stretch; width: 100%; overflow: auto; white-space: pre-wrap;
  overflow-wrap: anywhere;
  font: .95rem/1.5 ui-serif, Georgia, serif; }
.sound { width: 100%; padding: .75rem 1rem; }
h2 .sound { padding-left: 0; width: 18rem; }
.wave { display: block; width: 100%; height: 3.5rem; fill: var(--mark); }
audio { display: block; width: 100%; height: 2.25rem; margin-top: .5rem; }
.cut { margin: .35rem 0 0; color: var(--soft); font-size: .75rem; text-align: center; }
.facts { padding: .8rem 1rem 1rem; }
h3 { margin: 0 0 .45rem; font-size: .95rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; }
a { color: inherit; text-decoration: underline; text-decoration-color: var(--line); text-underline-offset: 3px; }
a:hover { color: var(--accent); text-decoration-color: currentColor; }
a:focus-visible, audio:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.relevance { display: flex; align-items: center; gap: .6rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
.bar { flex: 1; height: 6px; border-radius: 3px; background: var(--well); overflow: hidden; }
.bar span { display: block; height: 100%; border-radius: 3px; background: var(--mark); }
.small { display: flex; justify-content: space-between; margin: .4rem 0 0; color: var(--soft); font-size: .8rem;
  font-variant-numeric: tabular-nums; }
.path, .copies { margin: .3rem 0 0; color: var(--soft); font-size: .75rem; line-height: 1.4; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: .8rem; padding-top: 3rem; padding-bottom: 3rem; max-width: 72rem; }
@media print { .card { break-inside: avoid; } audio { display: none; } }
"""
