package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"perdure/runtime/bench"
)

func someResult() *bench.Result {
	return &bench.Result{
		Machine: bench.Machine{CPU: "some <fast> one", Cores: 2, Kernel: "6.18", Arch: "amd64", FileSystem: "ext4", Go: "go1.26", Wazero: "v1.12.0", Version: "v1.2.3"},
		Took:    90 * time.Second,
		Lines: []bench.Line{
			{ID: "speed.fib", What: "time of fib & others", Unit: "x", Value: 1.05, Samples: 9},
			{ID: "far.off", What: "one that is far off", Unit: "x", Value: 40, Samples: 1},
			{ID: "pause.64MiB", What: "a pause", Unit: "ms", Value: 0.25, P99: 1.5, Max: 20, Samples: 200},
			{ID: "disk.write", What: "a disk", Unit: "MB/s", Value: 1234.5, Samples: 3},
		},
		Skipped: []bench.Skipped{{What: "against redis", Why: "redis-server is not installed"}},
	}
}

// TestBenchTables wants all of a result in what is printed of it.
func TestBenchTables(t *testing.T) {
	var table, markdown bytes.Buffer
	if err := errors.Join(writeBenchTable(&table, someResult()), writeBenchMarkdown(&markdown, someResult())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^speed\.fib +1\.05 × +time of fib`, `(?m)^pause\.64MiB +0\.25 ms +1\.5 ms +20 ms +a pause$`, `(?m)^disk\.write +1234 MB/s`,
		`some <fast> one, 2 cores`, `(?m)^not measured: against redis: redis-server is not installed$`,
	} {
		if !regexp.MustCompile(want).Match(table.Bytes()) {
			t.Errorf("no %s in\n%s", want, table.Bytes())
		}
	}
	for _, want := range []string{"| `pause.64MiB` | 0.25 ms | 1.5 ms | 20 ms | a pause | 200 × |\n", "Version v1.2.3", "Not measured: against redis: redis-server is not installed.\n"} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("no %s in\n%s", want, markdown.String())
		}
	}
}

// TestBenchPicture wants well-formed XML with a bar for each ratio and each time with a spread, within the picture.
func TestBenchPicture(t *testing.T) {
	for _, r := range []*bench.Result{someResult(), {}} {
		bars, want := 0, min(3, len(r.Lines))
		d := xml.NewDecoder(bytes.NewReader(benchSVG(r)))
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			e, ok := token.(xml.StartElement)
			if !ok || e.Name.Local != "rect" {
				continue
			}
			bars++
			for _, a := range e.Attr {
				var v float64
				if _, err := fmt.Sscan(a.Value, &v); a.Name.Local == "width" && (err != nil || !(v >= 0 && v <= svgBar)) {
					t.Errorf("a bar of width %s", a.Value)
				}
			}
		}
		if bars != want {
			t.Errorf("%d bars, want %d", bars, want)
		}
	}
}

// TestBenchmarksDocument wants each measurement that docs/BENCHMARKS.md leans on to be in its table of results.
func TestBenchmarksDocument(t *testing.T) {
	b, err := os.ReadFile("docs/BENCHMARKS.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), "<!-- results -->\n")
	results, _, ok2 := strings.Cut(rest, "<!-- end of results -->\n")
	if !ok || !ok2 {
		t.Fatal("the marks around the results are missing")
	}
	cited := regexp.MustCompile("`([a-z]+\\.[A-Za-z0-9.]+)`").FindAllStringSubmatch(before, -1)
	if len(cited) < 10 {
		t.Errorf("only %d measurements are cited", len(cited))
	}
	for _, m := range cited {
		if !strings.Contains(results, "| `"+m[1]+"` | ") {
			t.Errorf("%s is cited, and is not among the results", m[1])
		}
	}
}
