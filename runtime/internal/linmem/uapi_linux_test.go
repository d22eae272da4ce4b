package linmem

import (
	"testing"
	"unsafe"
)

// ioc is _IOC of <asm-generic/ioctl.h>.
func ioc(dir, kind, nr, size uintptr) uintptr { return dir<<30 | size<<16 | kind<<8 | nr }

func TestKernelInterface(t *testing.T) {
	const none, readWrite = 0, 3
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"size of struct uffdio_api", unsafe.Sizeof(uffdioAPI{}), 24},
		{"size of struct uffdio_range", unsafe.Sizeof(uffdioRange{}), 16},
		{"size of struct uffdio_register", unsafe.Sizeof(uffdioRegisterArg{}), 32},
		{"size of struct page_region", unsafe.Sizeof(pageRegion{}), 24},
		{"size of struct pm_scan_arg", unsafe.Sizeof(pmScanArg{}), 96},
		{"offset of walk_end", unsafe.Offsetof(pmScanArg{}.walkEnd), 32},
		{"offset of vec", unsafe.Offsetof(pmScanArg{}.vec), 40},
		{"offset of return_mask", unsafe.Offsetof(pmScanArg{}.returnMask), 88},
		{"USERFAULTFD_IOC_NEW", userfaultfdIOCNew, ioc(none, 0xAA, 0, 0)},
		{"UFFDIO_API", uffdioAPIIoctl, ioc(readWrite, 0xAA, 0x3F, unsafe.Sizeof(uffdioAPI{}))},
		{"UFFDIO_REGISTER", uffdioRegister, ioc(readWrite, 0xAA, 0, unsafe.Sizeof(uffdioRegisterArg{}))},
		{"PAGEMAP_SCAN", pagemapScan, ioc(readWrite, 'f', 16, unsafe.Sizeof(pmScanArg{}))},
	} {
		if c.got != c.want {
			t.Errorf("%s is %#x, want %#x", c.name, c.got, c.want)
		}
	}
}
