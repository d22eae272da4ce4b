package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// BenchmarkInstrument measures what rewriting a module takes and how much larger it gets.
//
//	a Go guest of 4 MB: ≤ 2 s; growth of the file ≤ 1.5 (Go), ≤ 2.6 (C)
func BenchmarkInstrument(b *testing.B) {
	for _, g := range []struct {
		name string
		src  []byte
	}{
		{"C", guests.Bytes(b, "kernels")},
		{"SQLite", guests.Bytes(b, "sqlite")},
		{"Go", readFile(b, guests.BuildGo(b, "jsonwork"))},
		{"big", readFile(b, bigProgram(b))},
	} {
		b.Run(g.name, func(b *testing.B) {
			b.ReportAllocs()
			var hot []byte
			for b.Loop() {
				m, err := wasm.Decode(g.src)
				if err != nil {
					b.Fatal(err)
				}
				if err := m.Validate(); err != nil {
					b.Fatal(err)
				}
				if hot, _, err = instrument.Instrument(m, instrument.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(g.src))/1e6, "MB")
			b.ReportMetric(float64(len(hot))/float64(len(g.src)), "growth")
		})
	}
}

// BenchmarkOpenBig opens a Go program that has most of the standard library in it, first
// with nothing in the cache, then with everything. There is no required number; what was
// asked for is that a module of 30 MB with 34,000 functions works and that memory is
// bounded.
func BenchmarkOpenBig(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	path := bigProgram(b)
	m, err := wasm.Decode(readFile(b, path))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(readFile(b, path)))/1e6, "MB")
	b.ReportMetric(float64(len(m.Codes)), "functions")
	m = nil
	goruntime.GC()
	for range b.N {
		dir := b.TempDir()
		open := func(name string) *worked {
			o := Options{Dir: filepath.Join(dir, name), CacheDir: filepath.Join(dir, "cache"), Name: name, Program: path, Args: []string{"big"}}
			w := work(b, o, func(*worked) bool { return false })
			if w.status != 0 {
				b.Fatalf("status %d", w.status)
			}
			return w
		}
		w := open("cold")
		b.ReportMetric(w.events["StartedEvent"].Seconds(), "cold-s")
		b.ReportMetric(float64(w.maxRSS)/1e6, "cold-MB-RSS")
		var warm, rss series
		for i := range 3 {
			w := open(fmt.Sprintf("warm%d", i))
			warm, rss = append(warm, w.events["StartedEvent"].Seconds()), append(rss, float64(w.maxRSS)/1e6)
		}
		b.ReportMetric(warm.Sorted().Median()*1e3, "warm-ms")
		b.ReportMetric(rss.Sorted().Median(), "warm-MB-RSS")
	}
}

// bigProgram builds a Go program that needs much of the standard library and returns the
// path of the module.
func bigProgram(b testing.TB) string {
	b.Helper()
	began := time.Now()
	// Each of these is used by reflection, so that the linker keeps all methods.
	uses := []struct{ path, value string }{
		{"archive/tar", "tar.Reader{}"}, {"archive/zip", "zip.Reader{}"}, {"compress/bzip2", "bzip2.StructuralError(``)"},
		{"compress/lzw", "lzw.Reader{}"}, {"crypto/tls", "tls.Config{}"}, {"crypto/x509", "x509.Certificate{}"},
		{"database/sql", "sql.DB{}"}, {"debug/dwarf", "dwarf.Data{}"}, {"debug/elf", "elf.File{}"}, {"debug/macho", "macho.File{}"},
		{"debug/pe", "pe.File{}"}, {"encoding/asn1", "asn1.RawValue{}"}, {"encoding/csv", "csv.Reader{}"}, {"encoding/gob", "gob.Decoder{}"},
		{"encoding/json", "json.Decoder{}"}, {"encoding/xml", "xml.Decoder{}"}, {"expvar", "expvar.Map{}"}, {"flag", "flag.FlagSet{}"},
		{"go/ast", "ast.File{}"}, {"go/build", "build.Context{}"}, {"go/doc", "doc.Package{}"}, {"go/importer", "importer.Default()"},
		{"go/parser", "parser.Mode(0)"}, {"go/printer", "printer.Config{}"}, {"go/types", "types.Config{}"}, {"html/template", "template.Template{}"},
		{"image/gif", "gif.GIF{}"}, {"image/jpeg", "jpeg.Options{}"}, {"image/png", "png.Encoder{}"}, {"index/suffixarray", "suffixarray.Index{}"},
		{"log/slog", "slog.Logger{}"}, {"math/big", "big.Float{}"}, {"mime/multipart", "multipart.Reader{}"}, {"net/http", "http.Server{}"},
		{"net/http/cookiejar", "cookiejar.Jar{}"}, {"net/http/httputil", "httputil.ReverseProxy{}"}, {"net/mail", "mail.Message{}"},
		{"net/rpc", "rpc.Server{}"}, {"net/smtp", "smtp.Client{}"}, {"net/textproto", "textproto.Conn{}"}, {"os/exec", "exec.Cmd{}"},
		{"regexp", "regexp.Regexp{}"}, {"testing", "testing.B{}"}, {"testing/fstest", "fstest.MapFS{}"}, {"text/scanner", "scanner.Scanner{}"},
		{"text/tabwriter", "tabwriter.Writer{}"}, {"text/template/parse", "parse.Tree{}"},
	}
	var imports, values strings.Builder
	for i, u := range uses {
		name := fmt.Sprintf("p%d", i)
		_, value, _ := strings.Cut(u.value, ".")
		fmt.Fprintf(&imports, "\t%s %q\n", name, u.path)
		fmt.Fprintf(&values, "\tkeep(%s.%s)\n", name, value)
	}
	dir := filepath.Join(b.TempDir(), "big")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	// Method by a name that is not constant: from then on the linker keeps every method.
	src := "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"reflect\"\n\n" + imports.String() + ")\n\n" +
		"func keep(v any) { kept += reflect.ValueOf(v).NumMethod(); _, _ = reflect.TypeOf(v).MethodByName(os.Args[0]) }\n\n" +
		"var kept int\n\nfunc main() {\n" + values.String() + "\tfmt.Println(kept)\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(src), 0o600); err != nil {
		b.Fatal(err)
	}
	path := guests.BuildGo(b, dir)
	if d := time.Since(began); d > time.Second {
		b.Logf("built %s in %v", path, d)
	}
	return path
}
