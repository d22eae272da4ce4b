// Strings, maps, classes, closures without capture, typed arrays and the garbage
// collector of AssemblyScript.
//
// Usage: as-work [ROUNDS]. One line a round.

let seed: u64 = 1;

// next is splitmix64: the same sequence for every engine and every run.
function next(): u64 {
  seed += 0x9e3779b97f4a7c15;
  let z = seed;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

class Node {
  left: Node | null = null;
  right: Node | null = null;
  constructor(public key: u32) {}

  insert(key: u32): void {
    if (key < this.key) {
      const left = this.left;
      if (left) left.insert(key);
      else this.left = new Node(key);
    } else {
      const right = this.right;
      if (right) right.insert(key);
      else this.right = new Node(key);
    }
  }

  sum(depth: u32): u64 {
    const left = this.left, right = this.right;
    let total = <u64>this.key * depth;
    if (left) total += left.sum(depth + 1);
    if (right) total += right.sum(depth + 1);
    return total;
  }
}

abstract class Animal {
  abstract say(): string;
}
class Cat extends Animal {
  say(): string { return "meow"; }
}
class Dog extends Animal {
  constructor(private times: i32) { super(); }
  say(): string { return "woof".repeat(this.times); }
}

function digest(text: string): u64 {
  let h: u64 = 0xcbf29ce484222325;
  for (let i = 0; i < text.length; i++) h = (h ^ text.charCodeAt(i)) * 0x100000001b3;
  return h;
}

function round(n: i32): string {
  const tree = new Node(<u32>(next() >> 40));
  for (let i = 0; i < 2000; i++) tree.insert(<u32>(next() >> 40));

  const words = new Map<string, i32>();
  let animals: Animal[] = [];
  for (let i = 0; i < 500; i++) {
    const v = next();
    const word = (v % 300).toString(36);
    words.set(word, (words.has(word) ? words.get(word) : 0) + 1);
    animals.push(v & 1 ? new Cat() : new Dog(<i32>((v >> 8) % 4)));
  }
  const keys = words.keys().sort();
  let text = "";
  for (let i = 0; i < keys.length; i++) text += keys[i] + ":" + words.get(keys[i]).toString() + ",";
  text += animals.map<string>((a: Animal): string => a.say()).filter((s: string): bool => s.length > 0).join(" ");

  const numbers = new Float64Array(1000);
  for (let i = 0; i < numbers.length; i++) numbers[i] = Math.sin(<f64>i * 0.01) * <f64>(next() >> 44);
  numbers.sort((a: f64, b: f64): i32 => (a > b ? 1 : 0) - (a < b ? 1 : 0));
  const middle = reinterpret<u64>(numbers[500]);

  return n.toString() + " tree=" + tree.sum(1).toString() + " text=" + text.length.toString() + "," + digest(text).toString(16) + " middle=" + middle.toString(16);
}

const rounds = process.argv.length > 1 ? I32.parseInt(process.argv[1]) : 800;
for (let n = 0; n < rounds; n++) console.log(round(n));
