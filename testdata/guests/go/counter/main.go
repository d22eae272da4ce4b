// Counter prints 1, 2, 3 …, one number a line.
//
// Usage: counter [MILLISECONDS [N]]. It sleeps between two lines and stops
// after N lines (0: never).
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	pause, last := 100, 0
	if len(os.Args) > 1 {
		pause, _ = strconv.Atoi(os.Args[1])
	}
	if len(os.Args) > 2 {
		last, _ = strconv.Atoi(os.Args[2])
	}
	for i := 1; last == 0 || i <= last; i++ {
		fmt.Println(i)
		time.Sleep(time.Duration(pause) * time.Millisecond)
	}
}
