package metrics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// daemon is a Source that says what it was told.
type daemon struct {
	processes    []Process
	alive, ready error
}

func (d *daemon) Processes() []Process { return d.processes }
func (d *daemon) Alive() error         { return d.alive }
func (d *daemon) Ready() error         { return d.ready }

// counter has committed two generations and failed at one.
func counter() Process {
	p := Process{Name: "counter", State: "running", Restarts: 3, Generation: 17, MemoryBytes: 1 << 20, Sockets: 7, JournalBytes: 4096, SocketsResumed: 6, SocketsLost: 1, SocketsReset: 2, Started: time.Unix(1_700_000_000, 500_000_000)}
	p.Tally.Commit(Generation{Time: time.Unix(1_700_000_001, 0), Pause: 200 * time.Microsecond, DirtyPages: 10, StoredBytes: 1000})
	p.Tally.Commit(Generation{Time: time.Unix(1_700_000_002, 0), Pause: 2 * time.Second, DirtyPages: 5, StoredBytes: 300})
	p.Tally.Fail()
	return p
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRecorder()
	h.ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
	return r
}

// scrape parses what /metrics answers.
func scrape(t *testing.T, h http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	r := get(t, h, "/metrics")
	if r.Code != http.StatusOK {
		t.Fatalf("status %d: %s", r.Code, r.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestSeriesOfAProcess(t *testing.T) {
	c := newCollector(&daemon{processes: []Process{counter(), {Name: "idle", State: "stopped"}}}, "v1.2.3")
	const want = `
# HELP perdure_build_info Always 1, with the version of Perdure.
# TYPE perdure_build_info gauge
perdure_build_info{version="v1.2.3"} 1
# HELP perdure_process_generation Number of the newest durable generation.
# TYPE perdure_process_generation gauge
perdure_process_generation{process="counter"} 17
perdure_process_generation{process="idle"} 0
# HELP perdure_process_last_snapshot_dirty_pages Dirty pages of the newest generation.
# TYPE perdure_process_last_snapshot_dirty_pages gauge
perdure_process_last_snapshot_dirty_pages{process="counter"} 5
# HELP perdure_process_last_snapshot_stored_bytes Bytes of the file of the newest generation.
# TYPE perdure_process_last_snapshot_stored_bytes gauge
perdure_process_last_snapshot_stored_bytes{process="counter"} 300
# HELP perdure_process_last_snapshot_time_seconds When the newest generation was committed, in seconds since the epoch.
# TYPE perdure_process_last_snapshot_time_seconds gauge
perdure_process_last_snapshot_time_seconds{process="counter"} 1.700000002e+09
# HELP perdure_process_journal_bytes What is recorded since the last cut, and would be played again after a kill.
# TYPE perdure_process_journal_bytes gauge
perdure_process_journal_bytes{process="counter"} 4096
perdure_process_journal_bytes{process="idle"} 0
# HELP perdure_process_memory_bytes Size of the guest's linear memory.
# TYPE perdure_process_memory_bytes gauge
perdure_process_memory_bytes{process="counter"} 1.048576e+06
perdure_process_memory_bytes{process="idle"} 0
# HELP perdure_process_restarts_total Starts that followed an end that nobody asked for.
# TYPE perdure_process_restarts_total counter
perdure_process_restarts_total{process="counter"} 3
perdure_process_restarts_total{process="idle"} 0
# HELP perdure_process_restored_sockets What has become of the sockets at the last restore.
# TYPE perdure_process_restored_sockets gauge
perdure_process_restored_sockets{outcome="lost",process="counter"} 1
perdure_process_restored_sockets{outcome="lost",process="idle"} 0
perdure_process_restored_sockets{outcome="reset",process="counter"} 2
perdure_process_restored_sockets{outcome="reset",process="idle"} 0
perdure_process_restored_sockets{outcome="resumed",process="counter"} 6
perdure_process_restored_sockets{outcome="resumed",process="idle"} 0
# HELP perdure_process_snapshot_dirty_pages_total Pages of 4 KiB that had been written since the generation before.
# TYPE perdure_process_snapshot_dirty_pages_total counter
perdure_process_snapshot_dirty_pages_total{process="counter"} 15
perdure_process_snapshot_dirty_pages_total{process="idle"} 0
# HELP perdure_process_snapshot_failures_total Generations that could not be made since the daemon knows the process.
# TYPE perdure_process_snapshot_failures_total counter
perdure_process_snapshot_failures_total{process="counter"} 1
perdure_process_snapshot_failures_total{process="idle"} 0
# HELP perdure_process_snapshot_stored_bytes_total Bytes of the files of the generations.
# TYPE perdure_process_snapshot_stored_bytes_total counter
perdure_process_snapshot_stored_bytes_total{process="counter"} 1300
perdure_process_snapshot_stored_bytes_total{process="idle"} 0
# HELP perdure_process_snapshots_total Generations committed since the daemon knows the process.
# TYPE perdure_process_snapshots_total counter
perdure_process_snapshots_total{process="counter"} 2
perdure_process_snapshots_total{process="idle"} 0
# HELP perdure_process_sockets Sockets of the guest, as of its last cut.
# TYPE perdure_process_sockets gauge
perdure_process_sockets{process="counter"} 7
perdure_process_sockets{process="idle"} 0
# HELP perdure_process_start_time_seconds When the worker began, in seconds since the epoch; absent without a worker.
# TYPE perdure_process_start_time_seconds gauge
perdure_process_start_time_seconds{process="counter"} 1.7000000005e+09
# HELP perdure_process_state 1 for the state that the process is in, 0 for the others.
# TYPE perdure_process_state gauge
perdure_process_state{process="counter",state="ended"} 0
perdure_process_state{process="counter",state="failed"} 0
perdure_process_state{process="counter",state="hibernated"} 0
perdure_process_state{process="counter",state="parked"} 0
perdure_process_state{process="counter",state="running"} 1
perdure_process_state{process="counter",state="stopped"} 0
perdure_process_state{process="idle",state="ended"} 0
perdure_process_state{process="idle",state="failed"} 0
perdure_process_state{process="idle",state="hibernated"} 0
perdure_process_state{process="idle",state="parked"} 0
perdure_process_state{process="idle",state="running"} 0
perdure_process_state{process="idle",state="stopped"} 1
# HELP perdure_processes Processes, by state.
# TYPE perdure_processes gauge
perdure_processes{state="ended"} 0
perdure_processes{state="failed"} 0
perdure_processes{state="hibernated"} 0
perdure_processes{state="parked"} 0
perdure_processes{state="running"} 1
perdure_processes{state="stopped"} 1
# HELP perdure_processes_unlisted Processes without series of their own, since there are too many.
# TYPE perdure_processes_unlisted gauge
perdure_processes_unlisted 0
# HELP perdure_process_snapshot_pause_seconds How long the guest stood still for a generation.
# TYPE perdure_process_snapshot_pause_seconds histogram
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.0001"} 0
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.00025"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.0005"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.001"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.0025"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.005"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.01"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.025"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.05"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.1"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="0.25"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="1"} 1
perdure_process_snapshot_pause_seconds_bucket{process="counter",le="+Inf"} 2
perdure_process_snapshot_pause_seconds_sum{process="counter"} 2.0002
perdure_process_snapshot_pause_seconds_count{process="counter"} 2
`
	idle := strings.ReplaceAll(want[strings.Index(want, "perdure_process_snapshot_pause_seconds_bucket"):], "counter", "idle")
	idle = regexp.MustCompile(`(?m) [0-9.]+$`).ReplaceAllString(idle, " 0")
	if err := testutil.CollectAndCompare(c, strings.NewReader(want+idle)); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestTheServedPageHasOursAndThoseOfTheDaemonItself(t *testing.T) {
	families := scrape(t, Handler(&daemon{processes: []Process{counter()}}, "v1"))
	for _, name := range []string{"perdure_process_state", "process_resident_memory_bytes", "process_open_fds", "go_goroutines", "promhttp_metric_handler_errors_total"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if v := families["perdure_process_generation"].Metric[0].GetGauge().GetValue(); v != 17 {
		t.Errorf("generation %v, want 17", v)
	}
}

func TestAProcessThatIsGoneLeavesNoSeries(t *testing.T) {
	d := &daemon{processes: []Process{counter()}}
	h := Handler(d, "v1")
	scrape(t, h)
	d.processes = nil
	families := scrape(t, h)
	for name := range families {
		if strings.HasPrefix(name, "perdure_process_") {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestNamesAreWhatTheyMayBe(t *testing.T) {
	d := &daemon{processes: []Process{
		{Name: "twice", State: "running"}, {Name: "twice", State: "running"},
		{Name: "\xff", State: "failed"}, {Name: "quote\"back\\line\n", State: "neither"},
	}}
	families := scrape(t, Handler(d, "\xff"))
	var names []string
	for _, m := range families["perdure_process_memory_bytes"].Metric {
		names = append(names, m.Label[0].GetValue())
	}
	if want := []string{"quote\"back\\line\n", "twice", "\uFFFD"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
}

func TestTooManyProcesses(t *testing.T) {
	d := &daemon{}
	for i := range maxListed + 5 {
		d.processes = append(d.processes, Process{Name: fmt.Sprintf("p%06d", i), State: "parked"})
	}
	// Without the server, which has a bound on the time that so many may take.
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(d, "v1"))
	list, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := make(map[string]*dto.MetricFamily)
	for _, f := range list {
		families[f.GetName()] = f
	}
	if n := len(families["perdure_process_memory_bytes"].Metric); n != maxListed {
		t.Errorf("%d processes have series, want %d", n, maxListed)
	}
	if v := families["perdure_processes_unlisted"].Metric[0].GetGauge().GetValue(); v != 5 {
		t.Errorf("unlisted %v, want 5", v)
	}
	for _, m := range families["perdure_processes"].Metric {
		if m.Label[0].GetValue() == "parked" && m.GetGauge().GetValue() != maxListed+5 {
			t.Errorf("parked %v", m.GetGauge().GetValue())
		}
	}
}

func TestHealth(t *testing.T) {
	d := &daemon{ready: errors.New("the folder has not been read yet")}
	h := Handler(d, "v1")
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/healthz", 200, "ok\n"},
		{"/readyz", 503, "the folder has not been read yet\n"},
		{"/", 200, "perdure: /metrics /healthz /readyz\n"},
		{"/other", 404, "404 page not found\n"},
	} {
		if r := get(t, h, c.path); r.Code != c.status || r.Body.String() != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.path, r.Code, r.Body, c.status, c.body)
		}
	}
	d.ready, d.alive = nil, errors.New("stuck")
	if r := get(t, h, "/readyz"); r.Code != 200 {
		t.Errorf("ready: %d", r.Code)
	}
	if r := get(t, h, "/healthz"); r.Code != 503 || r.Body.String() != "stuck\n" {
		t.Errorf("stuck: %d %q", r.Code, r.Body)
	}
	r := httptest.NewRecorder()
	h.ServeHTTP(r, httptest.NewRequest(http.MethodPost, "/metrics", nil))
	if r.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", r.Code)
	}
}

// TestReadmeListsTheSeries holds the table in README.md against what the collector describes.
func TestReadmeListsTheSeries(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *prometheus.Desc, 100)
	newCollector(&daemon{}, "").Describe(ch)
	close(ch)
	n := 0
	for d := range ch {
		m := regexp.MustCompile(`fqName: "(\w+)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`).FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("no description: %s", d)
		}
		labels := ""
		if m[3] != "" {
			labels = "{" + m[3] + "}"
		}
		if row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(m[1]+labels) + "` \\| \\w+ \\| " + regexp.QuoteMeta(m[2]) + " \\|$"); !row.Match(readme) {
			t.Errorf("README.md has no row %q: %s", m[1]+labels, m[2])
		}
		n++
	}
	if rows := strings.Count(string(readme), "\n| `perdure_"); rows != n {
		t.Errorf("README.md lists %d series, there are %d", rows, n)
	}
}

func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, Handler(&daemon{}, "v1")) }()
	ask := func(limit time.Duration) (string, error) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.0\r\n\r\n")
		return bufio.NewReader(c).ReadString('\n')
	}
	const patience = time.Minute
	// Those that say nothing are closed after a while, and then there is room again.
	for end, again := time.Now().Add(patience), true; again; {
		began := time.Now()
		// Connections that say nothing do not keep others out, as long as they are not too many.
		var silent []net.Conn
		dial := func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			silent = append(silent, c)
		}
		for range maxConnecting - 1 {
			dial()
		}
		if line, err := ask(patience); err != nil || !strings.HasPrefix(line, "HTTP/1.0 200") {
			t.Errorf("got %q, %v", line, err)
		}
		dial()
		line, err := ask(200 * time.Millisecond)
		again = time.Since(began) >= headerTime && time.Now().Before(end)
		if !again && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("one connection too many was answered: %q, %v", line, err)
		}
		for _, c := range silent {
			_ = c.Close()
		}
	}
	if line, err := ask(patience); err != nil {
		t.Errorf("nobody gave the place back: %q, %v", line, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := Serve(context.Background(), l, Handler(&daemon{}, "v1")); err == nil {
		t.Error("no error")
	}
}
