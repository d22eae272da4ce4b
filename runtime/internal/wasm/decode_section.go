package wasm

const (
	funcTypeForm = 0x60
	elemKindFunc = 0x00
)

func (d *decoder) customSection(last SectionID) error {
	name, err := d.name()
	if err != nil {
		return err
	}
	d.m.Customs = append(d.m.Customs, Custom{Name: name, Bytes: d.b[d.pos:len(d.b):len(d.b)], After: last})
	d.pos = len(d.b)
	return nil
}

func (d *decoder) funcType(t *FuncType) error {
	at := d.pos
	form, err := d.byte()
	if err != nil {
		return err
	}
	switch form {
	case funcTypeForm:
	case 0x4e, 0x4f, 0x50, 0x5e, 0x5f: // rec, sub final, sub, array, struct
		return &UnsupportedError{Feature: featureGC, Offset: at}
	case 0x5d: // cont
		return &UnsupportedError{Feature: featureStackSwitching, Offset: at}
	default:
		return d.errorf(at, "malformed function type 0x%02x", form)
	}
	if t.Params, err = d.typeList(); err != nil {
		return err
	}
	if t.Results, err = d.typeList(); err != nil {
		return err
	}
	if !inLimits(t) {
		return &UnsupportedError{Feature: featureManyParams, Offset: at}
	}
	return nil
}

func (d *decoder) typeList() ([]ValType, error) {
	n, err := d.count(1)
	if err != nil || n == 0 {
		return nil, err
	}
	list := cut(&d.types, n)
	for i := range list {
		if list[i], err = d.valType(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// cut returns a slice of n items from a stock that is shared by many small lists, because a big module has
// tens of thousands of them.
func cut[T any](stock *[]T, n int) []T {
	if len(*stock) < n {
		*stock = make([]T, max(n, 1024))
	}
	list := (*stock)[:n:n]
	*stock = (*stock)[n:]
	return list
}

func (d *decoder) importEntry(im *Import) (err error) {
	if im.Module, err = d.name(); err != nil {
		return err
	}
	if im.Name, err = d.name(); err != nil {
		return err
	}
	at := d.pos
	kind, err := d.byte()
	if err != nil {
		return err
	}
	im.Kind = ExternKind(kind)
	switch kind {
	case byte(ExternFunc):
		return d.index(&im.TypeIndex)
	case byte(ExternTable):
		return d.tableType(&im.Table)
	case byte(ExternMemory):
		return d.limits(&im.Memory)
	case byte(ExternGlobal):
		return d.globalType(&im.Global)
	case externTag:
		return &UnsupportedError{Feature: featureExceptions, Offset: at}
	}
	return d.errorf(at, "malformed import kind 0x%02x", kind)
}

// externTag is the kind of an imported or exported tag, which belongs to a proposal that is not supported.
const externTag = 4

func (d *decoder) export(e *Export) (err error) {
	if e.Name, err = d.name(); err != nil {
		return err
	}
	at := d.pos
	kind, err := d.byte()
	if err != nil {
		return err
	}
	e.Kind = ExternKind(kind)
	switch {
	case kind == externTag:
		return &UnsupportedError{Feature: featureExceptions, Offset: at}
	case e.Kind > ExternGlobal:
		return d.errorf(at, "malformed export kind 0x%02x", kind)
	}
	return d.index(&e.Index)
}

// limits decodes the limits of a memory or a table.
func (d *decoder) limits(l *Limits) error {
	at := d.pos
	flags, err := d.byte()
	if err != nil {
		return err
	}
	switch {
	case flags > 0x0f:
		return d.errorf(at, "malformed limits flags 0x%02x", flags)
	case flags&8 != 0:
		return &UnsupportedError{Feature: featureCustomPageSizes, Offset: at}
	case flags&4 != 0:
		return &UnsupportedError{Feature: featureMemory64, Offset: at}
	case flags&2 != 0:
		return &UnsupportedError{Feature: featureThreads, Offset: at}
	}
	minimum, err := d.u32()
	if err != nil {
		return err
	}
	l.Min = uint64(minimum)
	if flags&1 != 0 {
		maximum, err := d.u32()
		if err != nil {
			return err
		}
		l.Max, l.HasMax = uint64(maximum), true
	}
	return nil
}

func (d *decoder) tableType(t *TableType) (err error) {
	if t.Elem, err = d.refType(); err != nil {
		return err
	}
	return d.limits(&t.Limits)
}

func (d *decoder) tableEntry(t *TableType) error {
	if d.pos < len(d.b) && d.b[d.pos] == 0x40 { // a table with a value to fill it
		return &UnsupportedError{Feature: featureFunctionRefs, Offset: d.pos}
	}
	return d.tableType(t)
}

func (d *decoder) globalType(t *GlobalType) (err error) {
	if t.Type, err = d.valType(); err != nil {
		return err
	}
	at := d.pos
	mutable, err := d.byte()
	if err != nil {
		return err
	}
	if mutable > 1 {
		return d.errorf(at, "malformed mutability 0x%02x", mutable)
	}
	t.Mutable = mutable == 1
	return nil
}

func (d *decoder) global(g *Global) error {
	if err := d.globalType(&g.Type); err != nil {
		return err
	}
	return d.constExpr(&g.Init)
}

// elem decodes an element segment. Bit 0 of its flags says passive or declarative; bit 1 says declarative
// then, and that a table index follows otherwise; bit 2 says that the items are expressions.
func (d *decoder) elem(e *Elem) error {
	at := d.pos
	flags, err := d.u32()
	if err != nil {
		return err
	}
	if flags > 7 {
		return d.errorf(at, "malformed element segment flags %d", flags)
	}
	e.Type = FuncRef
	if flags&1 == 0 {
		if flags&2 != 0 {
			if err := d.index(&e.Table); err != nil {
				return err
			}
		}
		if err := d.constExpr(&e.Offset); err != nil {
			return err
		}
	} else if e.Mode = Passive; flags&2 != 0 {
		e.Mode = Declarative
	}
	expressions := flags&4 != 0
	if flags&3 != 0 {
		if expressions {
			e.Type, err = d.refType()
		} else {
			err = d.elemKind()
		}
		if err != nil {
			return err
		}
	}
	if !expressions {
		return vector(d, &e.Funcs, 1, d.index)
	}
	if err := vector(d, &e.Init, 2, d.constExpr); err != nil {
		return err
	}
	e.compact()
	return nil
}

func (d *decoder) elemKind() error {
	at := d.pos
	kind, err := d.byte()
	if err == nil && kind != elemKindFunc {
		err = d.errorf(at, "malformed element kind 0x%02x", kind)
	}
	return err
}

// compact turns items that are all functions into the short form.
func (e *Elem) compact() {
	if e.Type != FuncRef {
		return
	}
	for _, item := range e.Init {
		if _, ok := item.refFunc(); !ok {
			return
		}
	}
	for _, item := range e.Init {
		index, _ := item.refFunc()
		e.Funcs = append(e.Funcs, index)
	}
	e.Init = nil
}

func (d *decoder) data(s *Data) error {
	at := d.pos
	flags, err := d.u32()
	if err != nil {
		return err
	}
	switch flags {
	case 0:
	case 1:
		s.Mode = Passive
	case 2:
		if err := d.index(&s.Memory); err != nil {
			return err
		}
	default:
		return d.errorf(at, "malformed data segment flags %d", flags)
	}
	if s.Mode == Active {
		if err := d.constExpr(&s.Offset); err != nil {
			return err
		}
	}
	s.Bytes, err = d.bytes()
	return err
}

func (d *decoder) code(c *Code) error {
	at := d.pos
	size, err := d.count(1)
	if err != nil {
		return err
	}
	section := d.b
	d.b = section[:d.pos+size]
	if err := d.locals(c); err != nil {
		return err
	}
	c.Offset = uint32(d.pos)
	c.Body = d.b[d.pos:len(d.b):len(d.b)]
	if n := len(c.Body); n == 0 || Op(c.Body[n-1]) != OpEnd {
		return d.errorf(at, "function body without end")
	}
	d.pos = len(d.b)
	d.b = section
	return nil
}

func (d *decoder) locals(c *Code) error {
	at := d.pos
	n, err := d.count(2)
	if err != nil || n == 0 {
		return err
	}
	c.Locals = cut(&d.runs, n)
	total := uint64(0)
	for i := range c.Locals {
		run := &c.Locals[i]
		if run.Count, err = d.u32(); err != nil {
			return err
		}
		if run.Type, err = d.valType(); err != nil {
			return err
		}
		total += uint64(run.Count)
	}
	switch {
	case total > 1<<32-1:
		return d.errorf(at, "too many locals: %d", total)
	case total > MaxLocals:
		return &UnsupportedError{Feature: featureManyLocals, Offset: at}
	}
	return nil
}
