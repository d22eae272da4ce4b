package wasm

import (
	"errors"
	"fmt"
	"io"
)

// A ConstExpr is a constant expression in its binary form, with the final end instruction.
type ConstExpr []byte

// ConstOf returns the constant expression that consists of one instruction.
func ConstOf(in Instr) ConstExpr {
	return append(in.Append(nil), byte(OpEnd))
}

// Parse returns the instructions of the expression without the final end.
func (e ConstExpr) Parse() ([]Instr, error) {
	var list []Instr
	r := NewReader(e)
	for {
		var in Instr
		if err := r.Next(&in); err != nil {
			if err == io.EOF {
				err = &FormatError{Offset: len(e), What: "constant expression without end"}
			}
			return nil, err
		}
		if in.Op == OpEnd {
			if in.End != len(e) {
				return nil, &FormatError{Offset: in.End, What: "bytes behind the end of a constant expression"}
			}
			return list, nil
		}
		if err := checkConstOp(&in); err != nil {
			return nil, err
		}
		list = append(list, in)
	}
}

// MapFuncs returns the expression with f applied to the function index of each ref.func in it.
func (e ConstExpr) MapFuncs(f func(index uint32) uint32) (ConstExpr, error) {
	list, err := e.Parse()
	if err != nil {
		return nil, err
	}
	var b []byte
	for i := range list {
		if list[i].Op == OpRefFunc {
			list[i].X = f(list[i].X)
		}
		b = list[i].Append(b)
	}
	return append(b, byte(OpEnd)), nil
}

// refFunc returns the function index if the expression is just a ref.func.
func (e ConstExpr) refFunc() (index uint32, ok bool) {
	if len(e) < 3 || Op(e[0]) != OpRefFunc {
		return 0, false
	}
	index, next := readU32(e, 1)
	return index, next == len(e)-1 && next > 0
}

// checkConstOp refuses an instruction that cannot be part of a constant expression.
func checkConstOp(in *Instr) error {
	switch in.Op {
	case OpI32Const, OpI64Const, OpF32Const, OpF64Const, OpV128Const, OpRefNull, OpRefFunc, OpGlobalGet:
		return nil
	case OpI32Add, OpI32Sub, OpI32Mul, OpI64Add, OpI64Sub, OpI64Mul:
		return &UnsupportedError{Feature: featureExtendedConst, Offset: in.Pos}
	}
	return &FormatError{Offset: in.Pos, What: fmt.Sprintf("%v is not a constant instruction", in.Op)}
}

// scanConstExpr returns the length of the constant expression at the start of b.
func scanConstExpr(b []byte) (int, error) {
	r := Reader{body: b}
	var in Instr
	for {
		if err := r.Next(&in); err != nil {
			if err == io.EOF {
				err = &FormatError{Offset: len(b), What: "unexpected end in a constant expression"}
			}
			return 0, err
		}
		if in.Op == OpEnd {
			return in.End, nil
		}
		if err := checkConstOp(&in); err != nil {
			return 0, err
		}
	}
}

// checkConst checks that the expression is of type want. It is typed in the space s, where it sees the
// immutable imported globals only.
func (s *space) checkConst(e ConstExpr, want ValType) error {
	// Without extended constant expressions, a single instruction is all that can give one value. This does
	// not use Parse because a program can have tens of thousands of data segments.
	r := Reader{body: e}
	var in, end Instr
	for _, next := range [...]*Instr{&in, &end} {
		if err := r.Next(next); err != nil {
			return constFault(err)
		}
	}
	if in.Op == OpEnd {
		return errors.New("type mismatch: empty constant expression")
	}
	if err := checkConstOp(&in); err != nil {
		return constFault(err)
	}
	if end.Op != OpEnd {
		return errors.New("type mismatch: constant expression of more than one instruction")
	}
	if end.End != len(e) {
		return errors.New("bytes behind the end of a constant expression")
	}
	got, err := s.constType(&in)
	if err == nil && got != want {
		err = fmt.Errorf("type mismatch: constant expression of type %v instead of %v", got, want)
	}
	return err
}

// constType returns the type of a constant instruction.
func (s *space) constType(in *Instr) (ValType, error) {
	switch in.Op {
	case OpGlobalGet:
		if uint64(in.X) >= uint64(s.imported[ExternGlobal]) {
			return 0, fmt.Errorf("unknown global %d: a constant expression sees imported globals only", in.X)
		}
		if g := s.globals[in.X]; !g.Mutable {
			return g.Type, nil
		}
		return 0, fmt.Errorf("constant expression reads global %d, which is mutable", in.X)
	case OpRefNull:
		return in.Types[0], nil
	case OpRefFunc:
		if uint64(in.X) >= uint64(len(s.funcs)) {
			return 0, fmt.Errorf("unknown function %d in a constant expression", in.X)
		}
		return FuncRef, nil
	}
	return in.Op.info().pushes[0], nil
}

// constFault takes from an error of a Reader the offset, which means nothing outside of the expression.
func constFault(err error) error {
	var format *FormatError
	switch {
	case errors.As(err, &format):
		return errors.New(format.What)
	case err == io.EOF:
		return errors.New("constant expression without end")
	}
	return err
}
