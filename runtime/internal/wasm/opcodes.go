package wasm

// The scalar instructions, named after their text format: "i32.load8_s" is OpI32Load8S.
// Those behind the prefix byte 0xFC carry it in front of their number.
const (
	// Control.
	OpUnreachable  Op = 0x00
	OpNop          Op = 0x01
	OpBlock        Op = 0x02
	OpLoop         Op = 0x03
	OpIf           Op = 0x04
	OpElse         Op = 0x05
	OpEnd          Op = 0x0b
	OpBr           Op = 0x0c
	OpBrIf         Op = 0x0d
	OpBrTable      Op = 0x0e
	OpReturn       Op = 0x0f
	OpCall         Op = 0x10
	OpCallIndirect Op = 0x11

	// Parametric.
	OpDrop    Op = 0x1a
	OpSelect  Op = 0x1b
	OpSelectT Op = 0x1c

	// Variables.
	OpLocalGet  Op = 0x20
	OpLocalSet  Op = 0x21
	OpLocalTee  Op = 0x22
	OpGlobalGet Op = 0x23
	OpGlobalSet Op = 0x24

	// Tables.
	OpTableGet Op = 0x25
	OpTableSet Op = 0x26

	// Memory.
	OpI32Load    Op = 0x28
	OpI64Load    Op = 0x29
	OpF32Load    Op = 0x2a
	OpF64Load    Op = 0x2b
	OpI32Load8S  Op = 0x2c
	OpI32Load8U  Op = 0x2d
	OpI32Load16S Op = 0x2e
	OpI32Load16U Op = 0x2f
	OpI64Load8S  Op = 0x30
	OpI64Load8U  Op = 0x31
	OpI64Load16S Op = 0x32
	OpI64Load16U Op = 0x33
	OpI64Load32S Op = 0x34
	OpI64Load32U Op = 0x35
	OpI32Store   Op = 0x36
	OpI64Store   Op = 0x37
	OpF32Store   Op = 0x38
	OpF64Store   Op = 0x39
	OpI32Store8  Op = 0x3a
	OpI32Store16 Op = 0x3b
	OpI64Store8  Op = 0x3c
	OpI64Store16 Op = 0x3d
	OpI64Store32 Op = 0x3e
	OpMemorySize Op = 0x3f
	OpMemoryGrow Op = 0x40

	// Constants.
	OpI32Const Op = 0x41
	OpI64Const Op = 0x42
	OpF32Const Op = 0x43
	OpF64Const Op = 0x44

	// Comparisons.
	OpI32Eqz Op = 0x45
	OpI32Eq  Op = 0x46
	OpI32Ne  Op = 0x47
	OpI32LtS Op = 0x48
	OpI32LtU Op = 0x49
	OpI32GtS Op = 0x4a
	OpI32GtU Op = 0x4b
	OpI32LeS Op = 0x4c
	OpI32LeU Op = 0x4d
	OpI32GeS Op = 0x4e
	OpI32GeU Op = 0x4f
	OpI64Eqz Op = 0x50
	OpI64Eq  Op = 0x51
	OpI64Ne  Op = 0x52
	OpI64LtS Op = 0x53
	OpI64LtU Op = 0x54
	OpI64GtS Op = 0x55
	OpI64GtU Op = 0x56
	OpI64LeS Op = 0x57
	OpI64LeU Op = 0x58
	OpI64GeS Op = 0x59
	OpI64GeU Op = 0x5a
	OpF32Eq  Op = 0x5b
	OpF32Ne  Op = 0x5c
	OpF32Lt  Op = 0x5d
	OpF32Gt  Op = 0x5e
	OpF32Le  Op = 0x5f
	OpF32Ge  Op = 0x60
	OpF64Eq  Op = 0x61
	OpF64Ne  Op = 0x62
	OpF64Lt  Op = 0x63
	OpF64Gt  Op = 0x64
	OpF64Le  Op = 0x65
	OpF64Ge  Op = 0x66

	// Arithmetic.
	OpI32Clz      Op = 0x67
	OpI32Ctz      Op = 0x68
	OpI32Popcnt   Op = 0x69
	OpI32Add      Op = 0x6a
	OpI32Sub      Op = 0x6b
	OpI32Mul      Op = 0x6c
	OpI32DivS     Op = 0x6d
	OpI32DivU     Op = 0x6e
	OpI32RemS     Op = 0x6f
	OpI32RemU     Op = 0x70
	OpI32And      Op = 0x71
	OpI32Or       Op = 0x72
	OpI32Xor      Op = 0x73
	OpI32Shl      Op = 0x74
	OpI32ShrS     Op = 0x75
	OpI32ShrU     Op = 0x76
	OpI32Rotl     Op = 0x77
	OpI32Rotr     Op = 0x78
	OpI64Clz      Op = 0x79
	OpI64Ctz      Op = 0x7a
	OpI64Popcnt   Op = 0x7b
	OpI64Add      Op = 0x7c
	OpI64Sub      Op = 0x7d
	OpI64Mul      Op = 0x7e
	OpI64DivS     Op = 0x7f
	OpI64DivU     Op = 0x80
	OpI64RemS     Op = 0x81
	OpI64RemU     Op = 0x82
	OpI64And      Op = 0x83
	OpI64Or       Op = 0x84
	OpI64Xor      Op = 0x85
	OpI64Shl      Op = 0x86
	OpI64ShrS     Op = 0x87
	OpI64ShrU     Op = 0x88
	OpI64Rotl     Op = 0x89
	OpI64Rotr     Op = 0x8a
	OpF32Abs      Op = 0x8b
	OpF32Neg      Op = 0x8c
	OpF32Ceil     Op = 0x8d
	OpF32Floor    Op = 0x8e
	OpF32Trunc    Op = 0x8f
	OpF32Nearest  Op = 0x90
	OpF32Sqrt     Op = 0x91
	OpF32Add      Op = 0x92
	OpF32Sub      Op = 0x93
	OpF32Mul      Op = 0x94
	OpF32Div      Op = 0x95
	OpF32Min      Op = 0x96
	OpF32Max      Op = 0x97
	OpF32Copysign Op = 0x98
	OpF64Abs      Op = 0x99
	OpF64Neg      Op = 0x9a
	OpF64Ceil     Op = 0x9b
	OpF64Floor    Op = 0x9c
	OpF64Trunc    Op = 0x9d
	OpF64Nearest  Op = 0x9e
	OpF64Sqrt     Op = 0x9f
	OpF64Add      Op = 0xa0
	OpF64Sub      Op = 0xa1
	OpF64Mul      Op = 0xa2
	OpF64Div      Op = 0xa3
	OpF64Min      Op = 0xa4
	OpF64Max      Op = 0xa5
	OpF64Copysign Op = 0xa6

	// Conversions.
	OpI32WrapI64        Op = 0xa7
	OpI32TruncF32S      Op = 0xa8
	OpI32TruncF32U      Op = 0xa9
	OpI32TruncF64S      Op = 0xaa
	OpI32TruncF64U      Op = 0xab
	OpI64ExtendI32S     Op = 0xac
	OpI64ExtendI32U     Op = 0xad
	OpI64TruncF32S      Op = 0xae
	OpI64TruncF32U      Op = 0xaf
	OpI64TruncF64S      Op = 0xb0
	OpI64TruncF64U      Op = 0xb1
	OpF32ConvertI32S    Op = 0xb2
	OpF32ConvertI32U    Op = 0xb3
	OpF32ConvertI64S    Op = 0xb4
	OpF32ConvertI64U    Op = 0xb5
	OpF32DemoteF64      Op = 0xb6
	OpF64ConvertI32S    Op = 0xb7
	OpF64ConvertI32U    Op = 0xb8
	OpF64ConvertI64S    Op = 0xb9
	OpF64ConvertI64U    Op = 0xba
	OpF64PromoteF32     Op = 0xbb
	OpI32ReinterpretF32 Op = 0xbc
	OpI64ReinterpretF64 Op = 0xbd
	OpF32ReinterpretI32 Op = 0xbe
	OpF64ReinterpretI64 Op = 0xbf
	OpI32Extend8S       Op = 0xc0
	OpI32Extend16S      Op = 0xc1
	OpI64Extend8S       Op = 0xc2
	OpI64Extend16S      Op = 0xc3
	OpI64Extend32S      Op = 0xc4

	// References.
	OpRefNull   Op = 0xd0
	OpRefIsNull Op = 0xd1
	OpRefFunc   Op = 0xd2

	// Saturating conversions, bulk memory and bulk table instructions (prefix 0xFC).
	OpI32TruncSatF32S Op = 0xFC00
	OpI32TruncSatF32U Op = 0xFC01
	OpI32TruncSatF64S Op = 0xFC02
	OpI32TruncSatF64U Op = 0xFC03
	OpI64TruncSatF32S Op = 0xFC04
	OpI64TruncSatF32U Op = 0xFC05
	OpI64TruncSatF64S Op = 0xFC06
	OpI64TruncSatF64U Op = 0xFC07
	OpMemoryInit      Op = 0xFC08
	OpDataDrop        Op = 0xFC09
	OpMemoryCopy      Op = 0xFC0A
	OpMemoryFill      Op = 0xFC0B
	OpTableInit       Op = 0xFC0C
	OpElemDrop        Op = 0xFC0D
	OpTableCopy       Op = 0xFC0E
	OpTableGrow       Op = 0xFC0F
	OpTableSize       Op = 0xFC10
	OpTableFill       Op = 0xFC11
)
