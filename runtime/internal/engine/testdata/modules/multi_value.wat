;; Functions and host functions with several results, kept on the stack across calls.
(module
  (import "env" "pair" (func $pair (param i64) (result i32 f32 i64)))
  (memory (export "memory") 1)
  (func $rotate (param i32 i64 f32) (result i64 f32 i32)
    (local $i i32)
    (loop $l
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const 4))))
    (local.get 1) (local.get 2) (local.get 0))
  (func (export "main") (result i32 f32 i64 i32)
    (i32.const 3) (i64.const 4)
    (call $pair (i64.const 11))     ;; i32 i64 | i32 f32 i64
    (call $pair (i64.const 12))
    (drop) (drop) (drop)
    (drop) (f32.const nan:0x200001) (f32.add) (drop)
    (drop)
    (f32.const nan:0x200001)
    (call $rotate)                  ;; i64 f32 i32
    (i32.const 5)
    (call $pair (i64.const 13))
    (drop) (drop) (i32.add) (i32.add)
    (drop) (drop) (drop)
    (call $pair (i64.const 14))
    (i32.const 8)))
