package linmem

import "unsafe"

// What follows is Linux's user-space interface as <linux/userfaultfd.h> and <linux/fs.h> (Linux 6.7 or newer)
// declare it; golang.org/x/sys/unix has none of it. Names are the kernel's, in Go's capitalisation.
// The numbers are the same on amd64 and arm64.

// <linux/userfaultfd.h>
const (
	uffdAPI          = 0xAA
	uffdUserModeOnly = 1 // UFFD_USER_MODE_ONLY, a flag of userfaultfd(2)

	uffdFeaturePagefaultFlagWP = 1 << 0  // UFFD_FEATURE_PAGEFAULT_FLAG_WP
	uffdFeatureWPUnpopulated   = 1 << 13 // UFFD_FEATURE_WP_UNPOPULATED
	uffdFeatureWPAsync         = 1 << 15 // UFFD_FEATURE_WP_ASYNC

	uffdioRegisterModeWP = 1 << 1 // UFFDIO_REGISTER_MODE_WP

	userfaultfdIOCNew = 0x0000AA00 // USERFAULTFD_IOC_NEW = _IO(0xAA, 0x00), on /dev/userfaultfd
	uffdioAPIIoctl    = 0xC018AA3F // UFFDIO_API = _IOWR(0xAA, 0x3F, struct uffdio_api)
	uffdioRegister    = 0xC020AA00 // UFFDIO_REGISTER = _IOWR(0xAA, 0x00, struct uffdio_register)
)

// uffdioAPI is struct uffdio_api.
type uffdioAPI struct {
	api      uint64
	features uint64
	ioctls   uint64
}

// uffdioRange is struct uffdio_range.
type uffdioRange struct {
	start uint64
	len   uint64
}

// uffdioRegisterArg is struct uffdio_register.
type uffdioRegisterArg struct {
	rng    uffdioRange
	mode   uint64
	ioctls uint64
}

// <linux/fs.h>
const (
	pagemapScan = 0xC0606610 // PAGEMAP_SCAN = _IOWR('f', 16, struct pm_scan_arg)

	pageIsWritten = 1 << 1 // PAGE_IS_WRITTEN: not write-protected by userfaultfd
	pageIsPresent = 1 << 3 // PAGE_IS_PRESENT
	pageIsSwapped = 1 << 4 // PAGE_IS_SWAPPED
	pageIsPFNZero = 1 << 5 // PAGE_IS_PFNZERO: the kernel's shared page of zeros

	pmScanWPMatching   = 1 << 0 // PM_SCAN_WP_MATCHING
	pmScanCheckWPAsync = 1 << 1 // PM_SCAN_CHECK_WPASYNC
)

// pageRegion is struct page_region.
type pageRegion struct {
	start      uint64
	end        uint64
	categories uint64
}

// pmScanArg is struct pm_scan_arg.
type pmScanArg struct {
	size              uint64
	flags             uint64
	start             uint64
	end               uint64
	walkEnd           uint64
	vec               uint64
	vecLen            uint64
	maxPages          uint64
	categoryInverted  uint64
	categoryMask      uint64
	categoryAnyofMask uint64
	returnMask        uint64
}

const pmScanArgSize = uint64(unsafe.Sizeof(pmScanArg{}))

// Documentation/admin-guide/mm/pagemap.rst: one little word of 64 bits per page in /proc/PID/pagemap.
const (
	pagemapEntrySize = 8
	pagemapSwapped   = 1 << 62
	pagemapPresent   = 1 << 63
)
