;; A start function that can be stopped in.
(module
  (import "env" "tick" (func $tick (param i32) (result i32)))
  (memory (export "memory") 1)
  (global $g (mut i32) (i32.const 0))
  (start $begin)
  (func $begin
    (local $i i32)
    (loop $l
      (global.set $g (i32.add (global.get $g) (call $tick (local.get $i))))
      (i32.store (i32.mul (local.get $i) (i32.const 4)) (global.get $g))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 40)))))
  (func (export "main") (result i32)
    (global.set $g (i32.add (global.get $g) (call $tick (i32.const 1))))
    (global.get $g)))
