package config

import (
	"encoding/json"
	"testing"
)

func TestTable(t *testing.T) {
	c := decodeString(t, "[process.a]\nargs = [\"1\"]\nenv = { A = \"x\" }\ndirs = [\"/a:/b:ro\"]\nlisten = [\"tcp://:80\"]\nlimits = { memory = \"64MiB\" }")
	got, err := json.Marshal(c.Process("a").Table())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"allow_bind":[],"allow_connect":[],"args":["1"],"console":{"log_files":4,"log_size":"16MiB","stdin":"wait"},"dirs":["/a:/b:ro"],"env":{"A":"x"},"keep_for":"5m",` +
		`"limits":{"confine":true,"cpu":"0%","memory":"64MiB","open_files":1024,"output_rate":"4MiB","pids":256},"listen":["tcp://:80"],` +
		`"memsnap":{"bufsize":"1MiB","expiration":"0s","integrity":true,"keep_daily":0,"keep_hourly":0,"keep_last":0,"keep_minutely":0,"key_file":"",` +
		`"max_snapshots":64,"min_free":"256MiB","min_snapshots":2,"redundancy":3,"threshold":100,"verbose":false},"on_change":"replace",` +
		`"restart":{"backoff":"100ms","backoff_max":"1m","max_traps":3,"policy":"on-failure","reset_after":"1m"},` +
		`"snapshot":{"durability":"process","every":"1s","journal_max":"64MiB","max_share":"25%","on_divergence":"generation"}}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
