package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"

	"perdure/runtime/bench"
)

// The picture's measures, in pixels.
const (
	svgWidth = 760
	svgName  = 190 // of the column of names
	svgBar   = 420 // of the longest bar
	svgRow   = 18
)

// benchSVG draws a result: ratios as bars beside the line at 1, which is what is compared with, and times as bars of the
// median with marks at the 99th percentile and the maximum, on a logarithmic scale.
func benchSVG(r *bench.Result) []byte {
	var ratios, times []bench.Line
	for _, l := range r.Lines {
		switch {
		case l.Unit == "x":
			ratios = append(ratios, l)
		case l.Unit == "ms" && l.Max > 0:
			times = append(times, l)
		}
	}
	var b bytes.Buffer
	height := svgRow * (len(ratios) + len(times) + 6)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", svgWidth, height)
	b.WriteString("<style>text{fill:#222}.b{fill:#4a7fb5}.m{stroke:#b5562f;stroke-width:2}.one{stroke:#222;stroke-dasharray:3 3}" +
		"@media(prefers-color-scheme:dark){text{fill:#ddd}.one{stroke:#ddd}}</style>\n")
	y := svgRow
	text := func(x, y int, s string, more string) {
		fmt.Fprintf(&b, `<text x="%d" y="%d"%s>`, x, y, more)
		_ = xml.EscapeText(&b, []byte(s)) // into memory
		b.WriteString("</text>\n")
	}
	row := func(l bench.Line, width float64, value string) {
		y += svgRow
		fmt.Fprintf(&b, "<g><title>")
		_ = xml.EscapeText(&b, []byte(l.What)) // the same
		b.WriteString("</title>\n")
		text(svgName-8, y, l.ID, ` text-anchor="end"`)
		fmt.Fprintf(&b, `<rect class="b" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", svgName, y-svgRow+6, width, svgRow-6)
		text(svgName+svgBar+12, y, value, "")
		b.WriteString("</g>\n")
	}

	text(0, y, "How many times the cost of doing without (the dashed line)", ` font-weight="bold"`)
	most := 1.5
	for _, l := range ratios {
		most = max(most, min(l.Value, 4)) // one that is far off would hide the others
	}
	top := y
	for _, l := range ratios {
		row(l, min(l.Value, most)/most*svgBar, benchValue(l.Value, l.Unit))
	}
	one := svgName + svgBar/most
	fmt.Fprintf(&b, `<line class="one" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`+"\n", one, top+4, one, y+4)

	y += 2 * svgRow
	text(0, y, "Times in ms: median, with marks at the 99th percentile and the maximum, logarithmic", ` font-weight="bold"`)
	low, high := math.Inf(1), 0.0
	for _, l := range times {
		low, high = min(low, l.Value/2), max(high, l.Max)
	}
	at := func(v float64) float64 { return math.Log(max(v, low)/low) / math.Log(high/low) * svgBar }
	for _, l := range times {
		row(l, at(l.Value), fmt.Sprintf("%.3g · %.3g · %.3g", l.Value, l.P99, l.Max))
		for _, v := range []float64{l.P99, l.Max} {
			fmt.Fprintf(&b, `<line class="m" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`+"\n", svgName+at(v), y-svgRow+4, svgName+at(v), y+2)
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
