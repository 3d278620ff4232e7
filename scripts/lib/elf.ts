// What scripts/build changes in Node's ELF file: it drops the symbols (as strip does, but the same
// on every machine and for every architecture), frees it of libatomic.so.1, which a minimal Debian
// or Raspberry Pi OS does not have, and has it refuse transparent huge pages.
//
// Node 26 imports one function from libatomic, __atomic_compare_exchange, and calls it with one
// size only: V8's free lists of 8 bytes (std::atomic<FreelistHead>, aligned to 8). The function
// for that size is given here in machine code; it goes into the unused end of the last page of
// Node's code. Any other size traps, and any other import from libatomic is an error of the build.
//
// Where the kernel gives huge pages to everybody (`always`, Debian's default), and most of all with
// pages of 16 KiB, where a huge one is 32 MiB, a single one doubles the memory of limpet. They can
// only be refused before memory is mapped, which no line of JavaScript is early enough for: so the
// executable begins with that, and goes on where it began before.

const ELF_MAGIC = 0x464c457f;
const SHT_NOBITS = 8;
const SHF_ALLOC = 2n;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PF_X = 1;
const DT_NULL = 0n;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const DT_SYMTAB = 6n;
const DT_VERSYM = 0x6ffffff0n;
const DT_VERNEED = 0x6ffffffen;
const DT_VERNEEDNUM = 0x6fffffffn;
const SYMBOL_BYTES = 24;
const SECTION_BYTES = 64;
const SEGMENT_BYTES = 56;
const STV_HIDDEN = 2;
const VER_NDX_GLOBAL = 1;
const MACHINE_AT = 0x12;
const ENTRY_AT = 0x18;

/** bool __atomic_compare_exchange(size, memory, expected, desired, order, order), size 8 only. */
const COMPARE_EXCHANGE: Readonly<Record<number, string>> = {
  // EM_X86_64
  62: [
    'f30f1efa', // endbr64
    '4883ff08', // cmp    rdi, 8
    '7519', //     jne    trap
    '488b02', //   mov    rax, [rdx]
    '488b09', //   mov    rcx, [rcx]
    'f0480fb10e', // lock cmpxchg [rsi], rcx
    '7506', //     jne    differs
    'b801000000', // mov  eax, 1
    'c3', //       ret
    '488902', //   differs: mov [rdx], rax
    '31c0', //     xor    eax, eax
    'c3', //       ret
    '0f0b', //     trap: ud2
  ].join(''),
  // EM_AARCH64, words in little endian
  183: [
    '5f2403d5', // bti    c
    '1f2000f1', // cmp    x0, #8
    '01020054', // b.ne   trap
    '450040f9', // ldr    x5, [x2]
    '660040f9', // ldr    x6, [x3]
    '27fc5fc8', // again: ldaxr x7, [x1]
    'ff0005eb', // cmp    x7, x5
    'c1000054', // b.ne   differs
    '26fc08c8', // stlxr  w8, x6, [x1]
    '88ffff35', // cbnz   w8, again
    'bf3b03d5', // dmb    ish
    '20008052', // mov    w0, #1
    'c0035fd6', // ret
    '5f3f03d5', // differs: clrex
    'bf3b03d5', // dmb    ish
    '470000f9', // str    x7, [x2]
    '00008052', // mov    w0, #0
    'c0035fd6', // ret
    '200020d4', // trap: brk #1
  ].join(''),
};

/**
 * prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) with all registers kept that mean something at the start
 * of a process; `jumpTo` adds the jump to what was there before.
 */
const REFUSE_HUGE_PAGES: Readonly<Record<number, string>> = {
  // EM_X86_64
  62: [
    'f30f1efa', // endbr64
    '52', //       push   rdx (what to call at the end)
    'b89d000000', // mov  eax, 157 (prctl)
    'bf29000000', // mov  edi, 41 (PR_SET_THP_DISABLE)
    'be01000000', // mov  esi, 1
    '31d2', //     xor    edx, edx
    '4531d2', //   xor    r10d, r10d
    '4531c0', //   xor    r8d, r8d
    '0f05', //     syscall
    '5a', //       pop    rdx
  ].join(''),
  // EM_AARCH64, words in little endian
  183: [
    '5f2403d5', // bti    c
    'e90300aa', // mov    x9, x0 (what to call at the end)
    '200580d2', // mov    x0, #41 (PR_SET_THP_DISABLE)
    '210080d2', // mov    x1, #1
    '020080d2', // mov    x2, #0
    '030080d2', // mov    x3, #0
    '040080d2', // mov    x4, #0
    'e81480d2', // mov    x8, #167 (prctl)
    '010000d4', // svc    #0
    'e00309aa', // mov    x0, x9
  ].join(''),
};

/** Names of the libraries that the loader will look for. */
export function neededLibraries(image: Buffer): string[] {
  const file = openElf(image);
  const strings = file.offsetOf(file.dynamic(DT_STRTAB));
  return file
    .dynamicEntries()
    .filter((entry) => entry.tag === DT_NEEDED)
    .map((entry) => text(image, strings + Number(entry.value)));
}

/** The file without its symbol tables and debugging sections: what `strip` leaves. */
export function withoutSymbols(image: Buffer): Buffer {
  openElf(image);
  const tableAt = Number(image.readBigUInt64LE(0x28));
  const count = image.readUInt16LE(0x3c);
  const names = sectionAt(image, tableAt, image.readUInt16LE(0x3e));
  const kept = Array.from({ length: count }, (_, index) => sectionAt(image, tableAt, index)).filter(
    (section, index) => index === 0 || (section.flags & SHF_ALLOC) !== 0n,
  );
  // Links between sections are by index, so only what lies behind all kept ones may go.
  const lastKept = kept.at(-1);
  if (lastKept === undefined || lastKept.index !== kept.length - 1) {
    throw new Error('the ELF file has loaded sections behind unloaded ones: cannot strip it');
  }
  const end = Math.max(...kept.map((s) => s.offset + (s.type === SHT_NOBITS ? 0 : s.size)));
  const labels = [...kept.map((s) => text(image, names.offset + s.nameAt)), '.shstrtab'];
  const labelAt: number[] = [];
  let strings = '\0';
  for (const label of labels) {
    labelAt.push(label === '' ? 0 : strings.length);
    if (label !== '') strings += `${label}\0`;
  }
  const headersAt = Math.ceil((end + strings.length) / 8) * 8;
  const out = Buffer.alloc(headersAt + labels.length * SECTION_BYTES);
  image.copy(out, 0, 0, end);
  out.write(strings, end, 'latin1');
  kept.forEach((section, index) => {
    const at = headersAt + index * SECTION_BYTES;
    image.copy(out, at, section.at, section.at + SECTION_BYTES);
    out.writeUInt32LE(labelAt[index] ?? 0, at);
  });
  const own = headersAt + kept.length * SECTION_BYTES;
  out.writeUInt32LE(labelAt.at(-1) ?? 0, own);
  out.writeUInt32LE(3, own + 4); // SHT_STRTAB
  out.writeBigUInt64LE(BigInt(end), own + 24);
  out.writeBigUInt64LE(BigInt(strings.length), own + 32);
  out.writeBigUInt64LE(1n, own + 48);
  out.writeBigUInt64LE(BigInt(headersAt), 0x28);
  out.writeUInt16LE(labels.length, 0x3c);
  out.writeUInt16LE(kept.length, 0x3e);
  return out;
}

/**
 * The file without its need for libatomic.so.1. Returns the same bytes when it has none.
 * Throws when it imports more from that library than the one function that is known here.
 */
export function withoutLibatomic(image: Buffer): Buffer {
  const out = Buffer.from(image);
  const file = openElf(out);
  const strings = file.offsetOf(file.dynamic(DT_STRTAB));
  const isAtomic = (at: number): boolean => text(out, strings + at) === 'libatomic.so.1';
  const entries = file.dynamicEntries();
  const needed = entries.findIndex((e) => e.tag === DT_NEEDED && isAtomic(Number(e.value)));
  if (needed < 0) return out;

  const version = dropVersionNeed(out, file, isAtomic);
  defineCompareExchange(out, file, version, strings);
  // Removes the DT_NEEDED by moving what follows up by one.
  const first = file.dynamicAt + needed * 16;
  out.copyWithin(first, first + 16, file.dynamicAt + file.dynamicBytes);
  out.fill(0, file.dynamicAt + file.dynamicBytes - 16, file.dynamicAt + file.dynamicBytes);
  return out;
}

/** Takes libatomic's record out of the list of needed versions; returns its version's index. */
function dropVersionNeed(out: Buffer, file: Elf, isAtomic: (at: number) => boolean): number {
  const start = file.offsetOf(file.dynamic(DT_VERNEED));
  let before: number | undefined;
  for (let at = start; ;) {
    const next = out.readUInt32LE(at + 12);
    if (!isAtomic(out.readUInt32LE(at + 4))) {
      if (next === 0) throw new Error('libatomic.so.1 is needed without a version: not foreseen');
      before = at;
      at += next;
      continue;
    }
    if (out.readUInt16LE(at + 2) !== 1) throw new Error('several versions of libatomic are needed');
    const version = out.readUInt16LE(at + out.readUInt32LE(at + 8) + 6);
    if (before !== undefined) {
      out.writeUInt32LE(next === 0 ? 0 : at + next - before, before + 12);
    } else {
      file.setDynamic(DT_VERNEED, file.dynamic(DT_VERNEED) + BigInt(next));
    }
    file.setDynamic(DT_VERNEEDNUM, file.dynamic(DT_VERNEEDNUM) - 1n);
    return version;
  }
}

/** Puts the function behind the code, and has the symbol point there. */
function defineCompareExchange(out: Buffer, file: Elf, version: number, strings: number): void {
  const symbol = onlySymbolOf(out, file, version, strings);
  const code = Buffer.from(codeFor(out, COMPARE_EXCHANGE), 'hex');
  const address = appendCode(out, file, () => code);
  // Hidden: the loader then takes the symbol of this file without looking it up anywhere.
  out.writeUInt8(STV_HIDDEN, symbol.at + 5);
  out.writeUInt16LE(file.codeSection, symbol.at + 6);
  out.writeBigUInt64LE(address, symbol.at + 8);
  out.writeBigUInt64LE(BigInt(code.length), symbol.at + 16);
  out.writeUInt16LE(VER_NDX_GLOBAL, symbol.versionAt);
}

/** The file, which when it starts refuses transparent huge pages for itself and what it starts. */
export function withoutHugePages(image: Buffer): Buffer {
  const out = Buffer.from(image);
  const file = openElf(out);
  const code = Buffer.from(codeFor(out, REFUSE_HUGE_PAGES), 'hex');
  const before = out.readBigUInt64LE(ENTRY_AT);
  const address = appendCode(out, file, (at) =>
    Buffer.concat([code, jumpTo(out, at + BigInt(code.length), before)]),
  );
  out.writeBigUInt64LE(address, ENTRY_AT);
  return out;
}

/** The instruction at `from` that goes on at `to`. */
function jumpTo(image: Buffer, from: bigint, to: bigint): Buffer {
  const isArm = image.readUInt16LE(MACHINE_AT) === 183;
  const jump = Buffer.alloc(isArm ? 4 : 5);
  if (isArm) {
    const words = Number((to - from) / 4n);
    if (Math.abs(words) >= 2 ** 25) throw new Error('too far for a jump');
    jump.writeUInt32LE((0x14000000 | (words & 0x3ffffff)) >>> 0); // b
  } else {
    jump.writeUInt8(0xe9); // jmp
    jump.writeInt32LE(Number(to - from) - jump.length, 1);
  }
  return jump;
}

function codeFor(image: Buffer, codes: Readonly<Record<number, string>>): string {
  const machine = image.readUInt16LE(MACHINE_AT);
  const hex = codes[machine];
  if (hex === undefined) throw new Error(`no machine code for ELF machine ${machine}`);
  return hex;
}

/** Puts code into the gap behind the file's own, as `code` gives it for its address: returned. */
function appendCode(out: Buffer, file: Elf, code: (address: bigint) => Buffer): bigint {
  const text = file.segments.find((s) => s.type === PT_LOAD && (s.flags & PF_X) !== 0);
  if (text === undefined) throw new Error('the ELF file has no code');
  const following = file.segments.filter((s) => s.type === PT_LOAD && s.offset > text.offset);
  const limit = Math.min(...following.map((s) => s.offset));
  const at = Math.ceil((text.offset + text.fileBytes) / 16) * 16;
  const address = BigInt(at - text.offset) + text.address;
  const bytes = code(address);
  if (at + bytes.length > limit || out.subarray(at, at + bytes.length).some((byte) => byte !== 0)) {
    throw new Error("there is no room behind Node's code for more");
  }
  bytes.copy(out, at);
  const size = BigInt(at + bytes.length - text.offset);
  out.writeBigUInt64LE(size, text.at + 32);
  out.writeBigUInt64LE(size, text.at + 40);
  return address;
}

function onlySymbolOf(
  out: Buffer,
  file: Elf,
  version: number,
  strings: number,
): { readonly at: number; readonly versionAt: number } {
  const symbols = file.offsetOf(file.dynamic(DT_SYMTAB));
  const versions = file.offsetOf(file.dynamic(DT_VERSYM));
  // The tables have no length of their own; the symbols lie right before their strings.
  const count = Math.floor((strings - symbols) / SYMBOL_BYTES);
  const found: { at: number; versionAt: number; name: string }[] = [];
  for (let index = 0; index < count; index++) {
    const versionAt = versions + index * 2;
    if ((out.readUInt16LE(versionAt) & 0x7fff) !== version) continue;
    const at = symbols + index * SYMBOL_BYTES;
    found.push({ at, versionAt, name: text(out, strings + out.readUInt32LE(at)) });
  }
  const [only] = found;
  if (only === undefined || found.length !== 1 || only.name !== '__atomic_compare_exchange') {
    const names = found.map((symbol) => symbol.name).join(', ');
    throw new Error(`this Node imports from libatomic: ${names}; expected one known function`);
  }
  return only;
}

type Segment = {
  readonly at: number;
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: bigint;
  readonly fileBytes: number;
};

type Elf = {
  readonly segments: readonly Segment[];
  readonly dynamicAt: number;
  readonly dynamicBytes: number;
  /** Index of the section `.text`, or 1 when there are no sections. */
  readonly codeSection: number;
  dynamicEntries(): { readonly tag: bigint; readonly value: bigint }[];
  dynamic(tag: bigint): bigint;
  setDynamic(tag: bigint, value: bigint): void;
  /** Where in the file an address lies. */
  offsetOf(address: bigint): number;
};

function openElf(image: Buffer): Elf {
  if (image.readUInt32LE(0) !== ELF_MAGIC || image[4] !== 2 || image[5] !== 1) {
    throw new Error('not a 64-bit little-endian ELF file');
  }
  const tableAt = Number(image.readBigUInt64LE(0x20));
  const segments = Array.from({ length: image.readUInt16LE(0x38) }, (_, index): Segment => {
    const at = tableAt + index * SEGMENT_BYTES;
    return {
      at,
      type: image.readUInt32LE(at),
      flags: image.readUInt32LE(at + 4),
      offset: Number(image.readBigUInt64LE(at + 8)),
      address: image.readBigUInt64LE(at + 16),
      fileBytes: Number(image.readBigUInt64LE(at + 32)),
    };
  });
  const dynamic = segments.find((segment) => segment.type === PT_DYNAMIC);
  if (dynamic === undefined) throw new Error('not a dynamically linked ELF file');
  const entryAt = (tag: bigint): number => {
    for (let at = dynamic.offset; at < dynamic.offset + dynamic.fileBytes; at += 16) {
      if (image.readBigUInt64LE(at) === tag) return at;
    }
    throw new Error(`the ELF file has no dynamic entry 0x${tag.toString(16)}`);
  };
  return {
    segments,
    dynamicAt: dynamic.offset,
    dynamicBytes: dynamic.fileBytes,
    codeSection: codeSectionOf(image),
    dynamicEntries: () => {
      const entries: { tag: bigint; value: bigint }[] = [];
      for (let at = dynamic.offset; image.readBigUInt64LE(at) !== DT_NULL; at += 16) {
        entries.push({ tag: image.readBigUInt64LE(at), value: image.readBigUInt64LE(at + 8) });
      }
      return entries;
    },
    dynamic: (tag) => image.readBigUInt64LE(entryAt(tag) + 8),
    setDynamic: (tag, value) => {
      image.writeBigUInt64LE(value, entryAt(tag) + 8);
    },
    offsetOf: (address) => {
      const home = segments.find(
        (s) =>
          s.type === PT_LOAD && address >= s.address && address < s.address + BigInt(s.fileBytes),
      );
      if (home === undefined) throw new Error(`address 0x${address.toString(16)} is in no segment`);
      return home.offset + Number(address - home.address);
    },
  };
}

function codeSectionOf(image: Buffer): number {
  const tableAt = Number(image.readBigUInt64LE(0x28));
  const names = sectionAt(image, tableAt, image.readUInt16LE(0x3e));
  for (let index = 1; index < image.readUInt16LE(0x3c); index++) {
    const section = sectionAt(image, tableAt, index);
    if (text(image, names.offset + section.nameAt) === '.text') return index;
  }
  return 1;
}

function sectionAt(image: Buffer, tableAt: number, index: number) {
  const at = tableAt + index * SECTION_BYTES;
  return {
    index,
    at,
    nameAt: image.readUInt32LE(at),
    type: image.readUInt32LE(at + 4),
    flags: image.readBigUInt64LE(at + 8),
    offset: Number(image.readBigUInt64LE(at + 24)),
    size: Number(image.readBigUInt64LE(at + 32)),
  };
}

function text(image: Buffer, at: number): string {
  return image.toString('latin1', at, image.indexOf(0, at));
}
