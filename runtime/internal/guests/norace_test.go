//go:build !race

package guests

const raceDetector = false
