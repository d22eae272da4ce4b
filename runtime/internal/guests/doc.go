// Package guests hands the programs of testdata/guests to tests: the prebuilt
// modules, the Go programs (built by the first test that asks), and what each of
// them prints when nothing interrupts it.
//
// It is for tests only; nothing that ships imports it. All functions may be
// called concurrently, and end the test when something is missing.
package guests
