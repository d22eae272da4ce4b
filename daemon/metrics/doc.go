// Package metrics serves what the daemon knows of its processes to Prometheus, and whether the
// daemon is well.
//
// Nothing is counted here but what a [Tally] adds up: each scrape asks the [Source] and turns
// its answer into series, so that a process that is gone leaves none behind. README.md beside
// this file lists the series.
package metrics
