;; br_table to blocks, to loops and out of the function, with and without a value.
(module
  (import "env" "tick" (func $tick (param i32) (result i32)))
  (memory (export "memory") 1)
  (func $pick (param $k i32) (result i32)
    (local $sum i32)
    (block $out (result i32)
      (loop $again (result i32)
        (local.set $sum (i32.add (local.get $sum) (call $tick (local.get $k))))
        (block $c
          (block $b
            (block $a
              (br_table $a $b $again $c (i32.rem_u (i32.add (local.get $k) (local.get $sum)) (i32.const 4))))
            (local.set $sum (i32.add (local.get $sum) (i32.const 1)))
            (br $again))
          (local.set $sum (i32.add (local.get $sum) (call $tick (i32.const 100)))))
        (local.get $sum)
        (br_table $out 2 $out (local.get $k))))
    (i32.add (i32.const 1000)))
  (func (export "main") (result i32)
    (local $i i32)
    (i32.const 0)
    (loop $l (param i32) (result i32)
      (i32.add (call $pick (local.get $i)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 12))))))
