// The program of the pause image, assembled by hand: it needs no compiler for either architecture.
//
//   block SIGINT, SIGTERM and SIGCHLD (a blocked signal reaches even the init of a PID namespace)
//   1: s = rt_sigtimedwait(those)
//      SIGCHLD: 2: wait4(-1, NULL, WNOHANG) until none is left, then 1
//      SIGINT, SIGTERM: exit(0)
//      else (interrupted): 1
export type Arch = 'amd64' | 'arm64';

const code: Readonly<Record<Arch, readonly string[]>> = {
  amd64: [
    '6a00 b802400100 48890424', // push 0; mov eax, INT|TERM|CHLD; mov [rsp], rax
    '31ff 4889e6 31d2 41ba08000000', // edi = SIG_BLOCK, rsi = rsp, edx = 0, r10 = 8
    'b80e000000 0f05', // rt_sigprocmask
    '4889e7 31f6 31d2 41ba08000000', // 1: rdi = rsp, rsi = rdx = 0, r10 = 8
    'b880000000 0f05', // rt_sigtimedwait
    '83f811 7413 83f802 7405 83f80f 75dd', // 17 → 2; 2 → exit; 15 → exit; else 1
    '31ff b83c000000 0f05', // exit(0)
    '48c7c7ffffffff 31f6 ba01000000 4531d2', // 2: rdi = -1, rsi = 0, rdx = WNOHANG, r10 = 0
    'b83d000000 0f05 85c0 7fe4 ebb6', // wait4; > 0 → 2; else 1
  ],
  arm64: [
    'ff4300d1 490088d2 2900a0f2 e90300f9', // sp -= 16; x9 = INT|TERM|CHLD; [sp] = x9
    '000080d2 e1030091 020080d2 030180d2', // x0 = SIG_BLOCK, x1 = sp, x2 = 0, x3 = 8
    'e81080d2 010000d4', // rt_sigprocmask
    'e0030091 010080d2 020080d2 030180d2', // 1: x0 = sp, x1 = x2 = 0, x3 = 8
    '281180d2 010000d4', // rt_sigtimedwait
    '1f4400f1 00010054 1f0800f1 60000054 1f3c00f1 a1feff54', // 17 → 2; 2, 15 → exit; else 1
    '000080d2 c80b80d2 010000d4', // exit_group(0)
    '00008092 010080d2 220080d2 030080d2', // 2: x0 = -1, x1 = 0, x2 = WNOHANG, x3 = 0
    '882080d2 010000d4 1f0000f1 2cffff54 e9ffff17', // wait4; > 0 → 2; else 1
  ],
};

/** A static ELF program of about 250 bytes that waits, reaps orphans, and ends when told. */
export function pauseProgram(arch: Arch): Buffer {
  const text = Buffer.from(code[arch].join('').replaceAll(' ', ''), 'hex');
  const headers = 64 + 56;
  const base = 0x400000n;
  const elf = Buffer.alloc(headers);
  Buffer.from('7f454c4602010100', 'hex').copy(elf);
  elf.writeUInt16LE(2, 16); // ET_EXEC
  elf.writeUInt16LE(arch === 'amd64' ? 62 : 183, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(base + BigInt(headers), 24); // entry
  elf.writeBigUInt64LE(64n, 32); // program headers
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt16LE(64, 58); // size of a section header, of which there are none
  elf.writeUInt32LE(1, 64); // PT_LOAD
  elf.writeUInt32LE(5, 68); // readable, executable
  elf.writeBigUInt64LE(base, 80);
  elf.writeBigUInt64LE(base, 88);
  elf.writeBigUInt64LE(BigInt(headers + text.length), 96);
  elf.writeBigUInt64LE(BigInt(headers + text.length), 104);
  elf.writeBigUInt64LE(0x10000n, 112); // aligned for pages of up to 64 KiB
  return Buffer.concat([elf, text]);
}
