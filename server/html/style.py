"""The style sheet: light and dark by the reader's own setting, one column on a phone, black on white in print."""

from __future__ import annotations

from server.html.palette import DARK, HEAT, LIGHT, MARKS

RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
header,main,footer,nav{max-width:70rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.6rem;line-height:1.25;margin:1.5rem 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;line-height:1.3;margin:2.5rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--rule)}
p,li,dd,figcaption{max-width:44rem;overflow-wrap:anywhere}
a{color:var(--link)}
.quiet,footer{color:var(--quiet)}
.answer{font-size:1.08rem;background:var(--panel);border-left:4px solid var(--link);
padding:.6rem 1rem;margin:.75rem 0;max-width:50rem}
.answer p{margin:.5rem 0;max-width:none}
.warnings{background:var(--warn);color:var(--warn-ink);
padding:.6rem 1rem .6rem 2.2rem;margin:.75rem 0;max-width:50rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;padding:0;margin:.5rem 0}
nav a{display:inline-block;padding:.25rem 0}
.scroll{overflow-x:auto;margin:.75rem 0;max-width:100%}
.scroll:focus-visible,summary:focus-visible,a:focus-visible{outline:3px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--quiet);padding:.25rem 0;max-width:min(44rem,calc(100vw - 2rem))}
th,td{padding:.35rem .7rem;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{border-bottom:2px solid var(--quiet);text-align:right;vertical-align:bottom}
tbody th{font-weight:600;text-align:left}
thead th:first-child{text-align:left}
td{text-align:right;white-space:nowrap}
table.words td,table.words thead th{text-align:left;white-space:normal}
td small{display:block;color:var(--quiet);font-size:.82rem}
.stamp{display:inline-block;background:var(--warn);color:var(--warn-ink);
border-radius:3px;padding:0 .35rem;font-size:.82rem;font-weight:400}
figure{margin:1.25rem 0 1rem}
figcaption{color:var(--quiet);margin-bottom:.5rem}
.beside{display:flex;flex-wrap:wrap;gap:0 3rem;align-items:flex-start}
.beside>.scroll{flex:0 1 auto;min-width:0}
.beside>figure{flex:1 1 20rem;min-width:0;margin-top:.75rem}
.pictures{display:grid;gap:1rem;overflow-x:auto;
grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}
.pictures>svg{width:100%;height:auto;display:block}
.cards{display:grid;gap:1.5rem 2rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}
.card{min-width:0}
.card .scroll{margin:.25rem 0 0}
.card table{table-layout:fixed;width:100%;font-size:.8rem}
.card th,.card td{padding:.2rem .1rem;white-space:normal;overflow-wrap:anywhere}
.card thead th,.card td small{font-size:.74rem}
.card caption{font-weight:600;color:var(--ink);font-size:.92rem}
.tiles{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;max-width:24rem;text-align:center;
color:var(--quiet);font-size:.88rem}
.strip{width:100%;max-width:24rem;image-rendering:pixelated}
.hit{font-weight:600}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;padding:0;margin:0 0 .75rem;font-size:.92rem}
.sample{width:30px;height:14px;vertical-align:middle}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--link);padding:.25rem 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--panel);
padding:.75rem 1rem;font-size:.88rem;margin:.5rem 0}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
img{max-width:100%;height:auto;display:block;background:#fff}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.2rem 1rem;margin:.5rem 0}
dt{color:var(--quiet)}
dd{margin:0}
svg text{font-family:inherit;fill:var(--ink)}
.small,[class^=heat-ink]{font-size:11.5px}
svg .small{fill:var(--quiet)}
.name{font-size:13px;font-weight:600}
.value{font-size:12px}
.grid,.axis,.leader,.worst,.range,.line{fill:none}
.grid{stroke:var(--rule);stroke-width:.8}
.dashes{stroke-dasharray:3 3}
.axis{stroke:var(--quiet)}
.leader{stroke:var(--quiet);stroke-width:.7;opacity:.7}
.worst{stroke:var(--ink);stroke-width:1.6}
.range,.line{stroke:currentColor;stroke-width:1.8}
.range{opacity:.55}
.mark{fill:currentColor;stroke:var(--page);stroke-width:.8}
.hollow{fill:none;stroke:currentColor;stroke-width:1}
.mark.unadapted{fill:none;stroke:currentColor;stroke-width:2}
.band{fill:currentColor;opacity:.16}
.line.centralised{stroke-dasharray:7 4}
.line.local{stroke-dasharray:2 3}
.line.unadapted{stroke-dasharray:9 3 2 3;stroke-width:1.3}
.line.oracle{stroke-dasharray:1.5 4;stroke-width:2.2;stroke-linecap:round}
.bar{fill:currentColor;fill-opacity:.3;stroke:currentColor;stroke-width:.8}
.bar.federated{fill-opacity:.75}
.heat{stroke:var(--rule);stroke-width:.6}
@media (max-width:30rem){
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}
th,td{padding:.3rem .2rem}table{font-size:.8rem}td small,.stamp{font-size:.75rem}
}
"""
PRINT = """
nav{display:none}
body{font-size:10.5pt}
figure svg,tr,caption,figcaption,.answer,.card{break-inside:avoid}
.spare{display:none}
h2,figcaption,caption{break-after:avoid}
.scroll,.pictures{overflow:visible}
details::details-content{content-visibility:visible;block-size:auto}
summary{display:none}
"""


def style_sheet() -> str:
    """All rules."""
    modes = "".join(f".{name}{{color:var(--{name})}}" for name in MARKS)
    heat = "".join(
        f".heat-{i}{{fill:var(--heat-{i})}}svg .heat-ink-{i}{{fill:var(--heat-ink-{i})}}" for i in range(HEAT)
    )
    return (
        f"{_colours(LIGHT, 'light')}@media screen and (prefers-color-scheme:dark){{{_colours(DARK, 'dark')}}}"
        f"{RULES}{modes}{heat}@media print{{{PRINT}}}"
    )


def _colours(palette: dict[str, str], scheme: str) -> str:
    return f":root{{color-scheme:{scheme};" + "".join(f"--{name}:{value};" for name, value in palette.items()) + "}"
