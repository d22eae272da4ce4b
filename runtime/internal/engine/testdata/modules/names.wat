;; Function names, and exports that begin as those which are added.
(module $m
  (import "env" "tick" (func $tick (param i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "__perdure_state") (mut i32) (i32.const 3))
  (func $first_function (export "__perdure__root2") (param i32) (result i32) (call $tick (local.get 0)))
  (func $main (export "main") (result i32)
    (i32.add (global.get 0) (call $first_function (i32.const 4)))))
