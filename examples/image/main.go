// Command image decodes a picture and prints it in characters.
//
// Usage: image FILE [WIDTH]. It knows PNG, JPEG and GIF, from Go's own library, and is built for WASI by Go itself.
package main

import (
	"bufio"
	"fmt"
	"image"
	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("which file?")
	}
	width := 72
	if len(args) > 1 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no width", args[1])
		}
		width = n
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close() // it was read only
	picture, format, err := image.Decode(bufio.NewReader(f))
	if err != nil {
		return err
	}
	b := picture.Bounds()
	if b.Empty() {
		return fmt.Errorf("%s is empty", args[0])
	}
	fmt.Printf("%s, %d x %d\n", format, b.Dx(), b.Dy())
	// A character is about twice as high as wide.
	rows := max(1, width*b.Dy()/b.Dx()/2)
	for y := range rows {
		line := make([]byte, width)
		for x := range width {
			line[x] = shade(picture, b.Min.X+x*b.Dx()/width, b.Min.Y+y*b.Dy()/rows)
		}
		fmt.Println(string(line))
	}
	return nil
}

// shade returns a character as dark as a point of the picture.
func shade(picture image.Image, x, y int) byte {
	const shades = "@%#*+=-:. "
	r, g, b, _ := picture.At(x, y).RGBA() // 16 bits each
	light := (299*r + 587*g + 114*b) / 1000
	return shades[light*uint32(len(shades)-1)/0xffff]
}
