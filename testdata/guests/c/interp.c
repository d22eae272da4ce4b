// A bytecode interpreter: one loop around a big switch (br_table) with calls
// and returns of its own.
#include "guest.h"

enum { HALT, PUSH, POP, DUP, SWAP, ADD, SUB, MUL, AND, XOR, SHL, SHR, LT, EQ, JUMP, JZ, CALL, RET, LOAD, STORE, INC, DEC, MOD, OUT };

static uint64_t stack[1024], memory[4096], output;
static uint32_t returns[256];

static uint64_t run(const uint32_t *code) {
  uint32_t pc = 0, sp = 0, rp = 0;
  uint64_t steps = 0;
  for (;;) {
    uint32_t word = code[pc++], arg = word >> 8;
    steps++;
    switch (word & 255) {
    case HALT: return steps;
    case PUSH: stack[sp++] = arg; break;
    case POP: sp--; break;
    case DUP: stack[sp] = stack[sp - 1]; sp++; break;
    case SWAP: { uint64_t t = stack[sp - 1]; stack[sp - 1] = stack[sp - 2]; stack[sp - 2] = t; break; }
    case ADD: sp--; stack[sp - 1] += stack[sp]; break;
    case SUB: sp--; stack[sp - 1] -= stack[sp]; break;
    case MUL: sp--; stack[sp - 1] *= stack[sp]; break;
    case AND: sp--; stack[sp - 1] &= stack[sp]; break;
    case XOR: sp--; stack[sp - 1] ^= stack[sp]; break;
    case SHL: stack[sp - 1] <<= arg & 63; break;
    case SHR: stack[sp - 1] >>= arg & 63; break;
    case LT: sp--; stack[sp - 1] = stack[sp - 1] < stack[sp]; break;
    case EQ: sp--; stack[sp - 1] = stack[sp - 1] == stack[sp]; break;
    case JUMP: pc = arg; break;
    case JZ: if (!stack[--sp]) pc = arg; break;
    case CALL: returns[rp++] = pc; pc = arg; break;
    case RET: pc = returns[--rp]; break;
    case LOAD: stack[sp - 1] = memory[(stack[sp - 1] + arg) & 4095]; break;
    case STORE: sp -= 2; memory[(stack[sp] + arg) & 4095] = stack[sp + 1]; break;
    case INC: memory[arg & 4095]++; break;
    case DEC: memory[arg & 4095]--; break;
    case MOD: sp--; stack[sp - 1] %= stack[sp]; break;
    case OUT: output = digest(output, &stack[--sp], 8); break;
    default: abort();
    }
  }
}

#define OP(op, arg) ((uint32_t)(op) | (uint32_t)(arg) << 8)

int main(int argc, char **argv) {
  long rounds = setup(argc, argv, 240);
  // memory[0] counts down; each turn hashes memory[1] into a table and, every
  // 64 turns, calls a subroutine that sums the table.
  for (long round = 0; round < rounds; round++) {
    const uint32_t program[] = {
        /* 0 */ OP(PUSH, 0), OP(LOAD, 0), OP(JZ, 26), OP(DEC, 0),
        /* 4 */ OP(PUSH, 1), OP(PUSH, 0), OP(LOAD, 1), OP(PUSH, 6364136 + round), OP(MUL, 0), OP(PUSH, 1442695), OP(ADD, 0), OP(DUP, 0), OP(SHR, 29), OP(XOR, 0), OP(STORE, 0),
        /* 15 */ OP(PUSH, 0), OP(LOAD, 1), OP(PUSH, 1021), OP(MOD, 0), OP(PUSH, 0), OP(LOAD, 1), OP(STORE, 16),
        /* 22 */ OP(PUSH, 0), OP(LOAD, 0), OP(JUMP, 27), OP(HALT, 0),
        /* 26 */ OP(HALT, 0),
        /* 27 */ OP(PUSH, 63), OP(AND, 0), OP(JZ, 31), OP(JUMP, 0),
        /* 31 */ OP(CALL, 33), OP(JUMP, 0),
        /* 33: sum 32 entries */ OP(PUSH, 2), OP(PUSH, 32), OP(STORE, 0), OP(PUSH, 3), OP(PUSH, 0), OP(STORE, 0),
        /* 39 */ OP(PUSH, 0), OP(LOAD, 2), OP(JZ, 51), OP(DEC, 2), OP(PUSH, 3), OP(PUSH, 0), OP(LOAD, 2), OP(LOAD, 16), OP(PUSH, 0), OP(LOAD, 3), OP(ADD, 0), OP(JUMP, 54),
        /* 51 */ OP(PUSH, 0), OP(LOAD, 3), OP(JUMP, 56),
        /* 54 */ OP(STORE, 0), OP(JUMP, 39),
        /* 56 */ OP(OUT, 0), OP(RET, 0),
    };
    output = DIGEST_START;
    memory[0] = 20000;
    memory[1] ^= round;
    uint64_t steps = run(program);
    say("%ld steps=%llu out=%016llx\n", round, (unsigned long long)steps, (unsigned long long)output);
  }
  return 0;
}
