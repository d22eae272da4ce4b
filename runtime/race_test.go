//go:build race

package runtime

// underRace says that everything takes many times longer.
const underRace = true
