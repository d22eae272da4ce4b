package metrics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxListed is how many processes have series of their own, about thirty each. Of more, the first
// ones by name have; all are counted in perdure_processes.
const maxListed = 2000

// collector turns what a source knows into series, at each scrape.
type collector struct {
	source Source

	build, processes, unlisted                   *prometheus.Desc
	state, restarts, generation, memory, started *prometheus.Desc
	snapshots, failures, pause, pages, bytes     *prometheus.Desc
	lastTime, lastPages, lastBytes               *prometheus.Desc
	sockets, restored, journal                   *prometheus.Desc
	version                                      string
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(source Source, version string) *collector {
	daemon := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("perdure_"+name, help, labels, nil)
	}
	process := func(name, help string, labels ...string) *prometheus.Desc {
		return daemon("process_"+name, help, append([]string{"process"}, labels...)...)
	}
	return &collector{
		source: source, version: version,

		build:     daemon("build_info", "Always 1, with the version of Perdure.", "version"),
		processes: daemon("processes", "Processes, by state.", "state"),
		unlisted:  daemon("processes_unlisted", "Processes without series of their own, since there are too many."),

		state:      process("state", "1 for the state that the process is in, 0 for the others.", "state"),
		restarts:   process("restarts_total", "Starts that followed an end that nobody asked for."),
		generation: process("generation", "Number of the newest durable generation."),
		memory:     process("memory_bytes", "Size of the guest's linear memory."),
		started:    process("start_time_seconds", "When the worker began, in seconds since the epoch; absent without a worker."),
		sockets:    process("sockets", "Sockets of the guest, as of its last cut."),
		restored:   process("restored_sockets", "What has become of the sockets at the last restore.", "outcome"),
		journal:    process("journal_bytes", "What is recorded since the last cut, and would be played again after a kill."),
		snapshots:  process("snapshots_total", "Generations committed since the daemon knows the process."),
		failures:   process("snapshot_failures_total", "Generations that could not be made since the daemon knows the process."),
		pause:      process("snapshot_pause_seconds", "How long the guest stood still for a generation."),
		pages:      process("snapshot_dirty_pages_total", "Pages of 4 KiB that had been written since the generation before."),
		bytes:      process("snapshot_stored_bytes_total", "Bytes of the files of the generations."),
		lastTime:   process("last_snapshot_time_seconds", "When the newest generation was committed, in seconds since the epoch."),
		lastPages:  process("last_snapshot_dirty_pages", "Dirty pages of the newest generation."),
		lastBytes:  process("last_snapshot_stored_bytes", "Bytes of the file of the newest generation."),
	}
}

// Describe sends what Collect may send.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.build, c.processes, c.unlisted, c.state, c.restarts, c.generation, c.memory, c.started,
		c.snapshots, c.failures, c.pause, c.pages, c.bytes, c.lastTime, c.lastPages, c.lastBytes,
		c.sockets, c.restored, c.journal,
	} {
		ch <- d
	}
}

// Collect asks the source.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	processes := distinct(c.source.Processes())
	counts := make(map[string]int)
	for _, p := range processes {
		counts[p.State]++
	}
	gauge(c.build, 1, clean(c.version))
	for _, state := range States {
		gauge(c.processes, float64(counts[state]), state)
	}
	listed := processes[:min(len(processes), maxListed)]
	gauge(c.unlisted, float64(len(processes)-len(listed)))
	for _, p := range listed {
		c.collect(ch, p, gauge)
	}
}

func (c *collector) collect(ch chan<- prometheus.Metric, p Process, gauge func(*prometheus.Desc, float64, ...string)) {
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), p.Name)
	}
	for _, state := range States {
		v := 0.0
		if p.State == state {
			v = 1
		}
		gauge(c.state, v, p.Name, state)
	}
	counter(c.restarts, p.Restarts)
	gauge(c.generation, float64(p.Generation), p.Name)
	gauge(c.memory, float64(p.MemoryBytes), p.Name)
	gauge(c.sockets, float64(p.Sockets), p.Name)
	gauge(c.restored, float64(p.SocketsResumed), p.Name, "resumed")
	gauge(c.restored, float64(p.SocketsLost), p.Name, "lost")
	gauge(c.restored, float64(p.SocketsReset), p.Name, "reset")
	gauge(c.journal, float64(p.JournalBytes), p.Name)
	if !p.Started.IsZero() {
		gauge(c.started, seconds(p.Started), p.Name)
	}
	t := &p.Tally
	counter(c.snapshots, t.committed)
	counter(c.failures, t.failed)
	ch <- prometheus.MustNewConstHistogram(c.pause, t.committed, t.pause.Seconds(), t.buckets(), p.Name)
	counter(c.pages, t.pages)
	counter(c.bytes, t.bytes)
	if t.committed > 0 {
		gauge(c.lastTime, seconds(t.last.Time), p.Name)
		gauge(c.lastPages, float64(t.last.DirtyPages), p.Name)
		gauge(c.lastBytes, float64(t.last.StoredBytes), p.Name)
	}
}

// distinct returns processes with names that can be labels, sorted, and each name once: one
// series that is there twice would spoil the whole scrape.
func distinct(processes []Process) []Process {
	list := slices.Clone(processes)
	for i := range list {
		list[i].Name = clean(list[i].Name)
	}
	slices.SortStableFunc(list, func(a, b Process) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(list, func(a, b Process) bool { return a.Name == b.Name })
}

func clean(label string) string { return strings.ToValidUTF8(label, "\uFFFD") }

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
