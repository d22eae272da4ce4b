package memsnap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"perdure/memsnap"
)

// A memory is saved, changed, saved again, and brought back.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := memsnap.Open(dir, memsnap.Options{})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	memory := make([]byte, 4*memsnap.PageSize)
	copy(memory, "page zero")
	copy(memory[2*memsnap.PageSize:], "page two")
	first := save(ctx, store, 0, memory, 0)

	copy(memory[2*memsnap.PageSize:], "PAGE TWO")
	second := save(ctx, store, first.Number, memory[2*memsnap.PageSize:3*memsnap.PageSize], 2)
	fmt.Printf("generation %d: %d new, %d linked, %d zero\n", first.Number, first.PagesNew, first.PagesLinked, first.PagesZero)
	fmt.Printf("generation %d: %d new, %d linked, %d zero\n", second.Number, second.PagesNew, second.PagesLinked, second.PagesZero)

	generation, skipped, err := store.OpenNewest(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer generation.Close()
	restored := make([]byte, generation.Pages()*memsnap.PageSize)
	if err := generation.Restore(ctx, restored); err != nil {
		log.Fatal(err)
	}
	stack, err := generation.Section("stack")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("skipped %d, %q, %q, %q\n", len(skipped), restored[:9], restored[2*memsnap.PageSize:][:8], stack)
	// Output:
	// generation 1: 2 new, 0 linked, 2 zero
	// generation 2: 1 new, 1 linked, 2 zero
	// skipped 0, "page zero", "PAGE TWO", "frames"
}

// save commits the given pages, from page first on, as the generation after base.
func save(ctx context.Context, store *memsnap.Store, base uint64, pages []byte, first uint64) memsnap.Info {
	session, err := store.Begin(base)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Abort()
	session.SetPages(4)
	if err := session.PutPages(first, pages); err != nil {
		log.Fatal(err)
	}
	if err := session.PutSection("stack", []byte("frames")); err != nil {
		log.Fatal(err)
	}
	info, err := session.Commit(ctx)
	if err != nil {
		log.Fatal(err)
	}
	return info
}

// When the newest generation's pages turn out to be damaged, the next older one is taken.
func ExampleStore_OpenNewestBelow() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := memsnap.Open(dir, memsnap.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for base := range uint64(2) {
		save(ctx, store, base, []byte(fmt.Sprintf("%-4096d", base)), 0)
	}
	// A bit of the newest generation's page flips.
	path := dir + "/0000000000000002.gen"
	b, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	b[70] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		log.Fatal(err)
	}

	g, _, err := store.OpenNewest(ctx)
	for err == nil {
		restored := make([]byte, g.Pages()*memsnap.PageSize)
		damage := g.Restore(ctx, restored)
		fmt.Printf("generation %d: well: %t\n", g.Info().Number, damage == nil)
		if damage == nil {
			break
		}
		g, _, err = store.OpenNewestBelow(ctx, g.Info().Number)
	}
	// Output:
	// generation 2: well: false
	// generation 1: well: true
}

// A store keeps what its policy says; what was pinned stays beyond that.
func ExampleStore_PurgeExpired() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := memsnap.Open(dir, memsnap.Options{Policy: memsnap.Policy{MaxSnapshots: 3, MinSnapshots: 1}})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for base := range uint64(6) {
		save(ctx, store, base, []byte(fmt.Sprintf("%-4096d", base)), base%4)
		if base == 0 {
			if err := store.Pin(1, "the first one"); err != nil {
				log.Fatal(err)
			}
		}
	}
	report, err := store.PurgeExpired(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("purged", report.Purged)
	list, err := store.Generations()
	if err != nil {
		log.Fatal(err)
	}
	for _, info := range list {
		fmt.Println(info.Number, info.Pinned)
	}
	_, err = store.Purge(ctx, 6)
	fmt.Println(errors.Is(err, memsnap.ErrDenied))
	// Output:
	// purged [2 3 4]
	// 1 true
	// 5 false
	// 6 false
	// true
}

// A generation moves to another store through any pipe.
func ExampleGeneration_Export() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	here, err := memsnap.Open(dir+"/here", memsnap.Options{})
	if err != nil {
		log.Fatal(err)
	}
	there, err := memsnap.Open(dir+"/there", memsnap.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	first := save(ctx, here, 0, make([]byte, memsnap.PageSize), 0)
	save(ctx, here, first.Number, []byte(fmt.Sprintf("%-4096s", "hello")), 3)

	generation, _, err := here.OpenNewest(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer generation.Close()
	var file bytes.Buffer
	if err := generation.Export(ctx, &file); err != nil {
		log.Fatal(err)
	}
	info, err := there.Import(ctx, &file)
	if err != nil {
		log.Fatal(err)
	}
	moved, err := there.OpenGeneration(ctx, info.Number)
	if err != nil {
		log.Fatal(err)
	}
	page := make([]byte, memsnap.PageSize)
	if err := moved.ReadPage(3, page); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("generation %d: %q\n", info.Number, page[:5])
	// Output:
	// generation 1: "hello"
}

// An older generation is made the newest again, and compared with what it replaces.
func ExampleStore_Rollback() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := memsnap.Open(dir, memsnap.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	save(ctx, store, 0, []byte(fmt.Sprintf("%-4096s", "good")), 1)
	save(ctx, store, 1, []byte(fmt.Sprintf("%-4096s", "a mistake")), 1)
	info, err := store.Rollback(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	for _, before := range []uint64{1, 2} {
		d, err := store.Diff(ctx, before, info.Number)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("generation %d to %d: %d pages differ\n", before, info.Number, d.Pages())
	}
	// Output:
	// generation 1 to 3: 0 pages differ
	// generation 2 to 3: 1 pages differ
}

// A session that is given up leaves nothing, a section can be left out, and calls in the wrong order are told.
func ExampleSession_Abort() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := memsnap.Open(dir, memsnap.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	first := save(ctx, store, 0, make([]byte, memsnap.PageSize), 0)

	session, err := store.Begin(first.Number)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := store.Begin(first.Number); errors.Is(err, memsnap.ErrBusy) {
		fmt.Println("one session at a time")
	}
	if err := session.Abort(); err != nil {
		log.Fatal(err)
	}
	if _, err := session.Commit(ctx); errors.Is(err, memsnap.ErrState) {
		fmt.Println("it is over")
	}

	session, err = store.Begin(first.Number)
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(session.KeepSections(), session.DeleteSection("stack")); err != nil {
		log.Fatal(err)
	}
	second, err := session.Commit(ctx)
	if err != nil {
		log.Fatal(err)
	}
	generation, err := store.OpenGeneration(ctx, second.Number)
	if err != nil {
		log.Fatal(err)
	}
	defer generation.Close()
	fmt.Println("generation", second.Number, "has", len(generation.Sections()), "sections")
	// Output:
	// one session at a time
	// it is over
	// generation 2 has 0 sections
}

// Two generations are compared, and each page's places are listed.
func ExampleStore_Diff() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := memsnap.Open(dir, memsnap.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	memory := bytes.Repeat([]byte("x"), 4*memsnap.PageSize)
	first := save(ctx, store, 0, memory, 0)
	second := save(ctx, store, first.Number, bytes.Repeat([]byte("y"), memsnap.PageSize), 2)

	difference, err := store.Diff(ctx, first.Number, second.Number)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pages that differ:", difference.Changed)
	generation, err := store.OpenGeneration(ctx, second.Number)
	if err != nil {
		log.Fatal(err)
	}
	defer generation.Close()
	for run := range generation.Runs() {
		fmt.Printf("%d from page %d: %v\n", run.Count, run.First, run.Backlinks)
	}
	// Output:
	// pages that differ: [{2 1}]
	// 2 from page 0: [{1 0}]
	// 1 from page 2: [{2 0}]
	// 1 from page 3: [{1 3}]
}

// What was damaged is found, stored again from another copy, and a pin keeps a generation meanwhile.
func ExampleStore_Repair() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := memsnap.Open(dir, memsnap.Options{Policy: memsnap.Policy{Redundancy: 1, MaxSnapshots: 1}})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	first := save(ctx, store, 0, bytes.Repeat([]byte("x"), memsnap.PageSize), 0)
	second := save(ctx, store, first.Number, nil, 0) // stores the page again, since one generation leans on it
	if err := store.Pin(first.Number, "the first"); err != nil {
		log.Fatal(err)
	}
	if _, err := store.PurgeExpired(ctx); err != nil {
		log.Fatal(err)
	}

	path := filepath.Join(dir, fmt.Sprintf("%016x.gen", second.Number))
	content, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	content[70] ^= 1 // within the page
	if err := os.WriteFile(path, content, 0o600); err != nil {
		log.Fatal(err)
	}
	report, err := store.Repair(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, page := range report.Damage.Pages {
		fmt.Printf("page %d: bad in %v, good in %v\n", page.Page, page.Bad, page.Good)
	}
	fmt.Printf("generation %d equals %d, %d page repaired\n", report.Generation.Number, report.Checked, report.Repaired)
	// Output:
	// page 0: bad in [2], good in [1]
	// generation 3 equals 2, 1 page repaired
}
