"""How a report looks, on screen, phone, paper and in the dark; and the script that sorts and searches its tables."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b2733;--soft:#5b6875;--line:#dfe4e9;--page:#f5f7f9;--card:#fff;--accent:#1f5f99}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9fadba;--line:#33404d;--page:#12181f;--card:#1b242d;
--accent:#7db6e8}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}
a{color:var(--accent)}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 6px;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:36px 0 10px}
.lead{color:var(--soft);margin:0 0 22px;max-width:75ch;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:1.25rem;line-height:1.25;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.card span{display:block;color:var(--soft);font-size:.85rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px;margin-top:20px;
align-items:start}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(var(--cell),1fr));gap:10px;align-items:start}
figure{margin:0;background:#fff;border:1px solid var(--line);border-radius:8px;padding:10px}
figure img{display:block;width:100%;height:auto}
figcaption{color:#5b6875;font-size:.85rem;padding:6px 4px 0}
.grid figure{padding:4px}
.grid figcaption{font-size:.72rem;line-height:1.3;overflow-wrap:anywhere;padding:4px 2px 0}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
.note{color:var(--soft);font-size:.85rem;margin:-4px 0 10px}
th,td{padding:7px 14px;text-align:left;border-top:1px solid var(--line);overflow-wrap:break-word}
td:first-child{min-width:9rem}
.facts td{overflow-wrap:anywhere}
.n{text-align:right;white-space:nowrap}
.d{white-space:nowrap}
th:first-child.n,td:first-child.n{text-align:left}
thead th{border-top:0;color:var(--soft);font-weight:600;font-size:.85rem;white-space:nowrap}
.facts th{color:var(--soft);font-weight:400;width:14rem;vertical-align:top}
tr:first-child>*{border-top:0}
thead+tbody tr:first-child>*{border-top:1px solid var(--line)}
.browse input{font:inherit;width:min(100%,26rem);padding:6px 10px;margin:0 8px 8px 0;color:var(--ink);
background:var(--card);border:1px solid var(--line);border-radius:8px}
.browse output{color:var(--soft);font-size:.85rem}
.browse td:not(.n,.d){min-width:8rem}
.browse .scroll{max-height:75vh;overflow-y:auto}
.browse thead th{position:sticky;top:0;background:var(--card);box-shadow:inset 0 -1px var(--line)}
.browse thead button{all:unset;cursor:pointer}
.browse thead button:focus-visible{outline:2px solid var(--accent)}
th[aria-sort=ascending] button::after{content:" \\25b2"}
th[aria-sort=descending] button::after{content:" \\25bc"}
p,li{max-width:80ch;overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:.88rem}
.panel{display:none}
.panel:target{display:block;position:fixed;inset:0 0 0 auto;width:min(100%,760px);overflow-y:auto;z-index:2;
padding:14px 20px 40px;background:var(--page);border-left:1px solid var(--line);box-shadow:0 0 40px #0005}
.panel nav{display:flex;gap:18px;position:sticky;top:-14px;padding:10px 0;background:var(--page)}
.panel nav .close{margin-left:auto}
.panel h2{margin-top:4px;overflow-wrap:anywhere}
.panel img{image-rendering:pixelated}
.panel .scroll,.panel .figures{margin-top:12px}
footer{margin-top:36px;color:var(--soft);font-size:.82rem;overflow-wrap:anywhere}
@media(max-width:520px){main{padding:18px 14px 32px}h1{font-size:1.35rem}.cards{grid-template-columns:1fr 1fr;gap:8px}
.card{padding:9px 10px}.card b{font-size:1.15rem}th,td{padding:6px 9px}.facts th{width:7.5rem}
figure{padding:4px}table{font-size:.85rem}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--page:#fff;--card:#fff}body{font-size:10.5pt}main{padding:0;
max-width:none}h2{break-after:avoid}figure,.card,tr,pre{break-inside:avoid}.panel:target{display:none}
.scroll,.browse .scroll{overflow:visible;
max-height:none}.browse input,.browse output{display:none}.figures{grid-template-columns:1fr 1fr}}
"""

SCRIPT = """
addEventListener("keydown", event => {
  const turn = {Escape: "close", ArrowLeft: "previous", ArrowRight: "next"}[event.key];
  if (turn && event.target.tagName !== "INPUT") document.querySelector(`.panel:target .${turn}`)?.click();
});
for (const box of document.querySelectorAll(".browse")) {
  const body = box.querySelector("tbody"), rows = [...body.rows], heads = [...box.querySelectorAll("thead th")];
  const find = document.createElement("input"), count = document.createElement("output");
  find.type = "search"; find.placeholder = "Search"; find.setAttribute("aria-label", "Search the table");
  box.prepend(find, count);
  const number = text => /^[-+\\u2212\\u00b1$\\u20ac\\u00a3]?\\d/.test(text)
    ? parseFloat(text.replace(/[,$\\u20ac\\u00a3\\u00b1]/g, "").replace("\\u2212", "-")) : NaN;
  const filter = () => {
    const words = find.value.toLowerCase().split(/\\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  };
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.append(...head.childNodes); head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" ? 1 : head.hasAttribute("aria-sort") ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up > 0 ? "ascending" : "descending");
      const keys = new Map(rows.map(row => {
        const text = row.cells[at].textContent.trim();
        return [row, [number(text), text]];
      }));
      rows.sort((left, right) => {
        const [a, s] = keys.get(left), [b, t] = keys.get(right);
        if (isNaN(a) !== isNaN(b)) return isNaN(a) ? 1 : -1;
        return up * (isNaN(a) ? s.localeCompare(t, "en", {numeric: true}) : a - b);
      });
      body.append(...rows);
    });
  });
  find.addEventListener("input", filter);
  filter();
}
"""
