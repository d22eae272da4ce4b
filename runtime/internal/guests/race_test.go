//go:build race

package guests

const raceDetector = true
