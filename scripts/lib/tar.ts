// Tar archives (ustar with GNU long names), just what container images need.
export type TarEntry = {
  readonly path: string;
  readonly kind?: 'file' | 'directory' | 'link' | 'hardlink';
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly body?: Uint8Array;
  readonly target?: string;
};

const typeOf = { file: '0', hardlink: '1', link: '2', directory: '5' } as const;

/** Writes an archive. All times are 0, so equal entries give equal bytes. */
export function writeTar(entries: readonly TarEntry[]): Buffer {
  const blocks: Uint8Array[] = [];
  for (const entry of entries) {
    const target = entry.target ?? '';
    if (Buffer.byteLength(target) > 100) blocks.push(...long('K', target));
    if (Buffer.byteLength(entry.path) > 100) blocks.push(...long('L', entry.path));
    const kind = entry.kind ?? 'file';
    const body = kind === 'file' ? (entry.body ?? new Uint8Array()) : new Uint8Array();
    const mode = entry.mode ?? (kind === 'file' ? 0o644 : 0o755);
    const ids = { uid: entry.uid ?? 0, gid: entry.gid ?? 0 };
    blocks.push(
      header({ path: entry.path, type: typeOf[kind], mode, target, ...ids }, body.length),
    );
    blocks.push(body, padding(body.length));
  }
  blocks.push(Buffer.alloc(1024));
  return Buffer.concat(blocks);
}

/** Reads the plain files of an archive as writeTar writes it. */
export function readTar(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  let longName: string | undefined;
  for (let at = 0; at + 512 <= archive.length;) {
    const text = (from: number, length: number): string =>
      archive.toString('utf8', at + from, at + from + length).replace(/\0.*$/s, '');
    const name = text(0, 100);
    if (name === '') break;
    const size = Number.parseInt(text(124, 12), 8);
    const body = archive.subarray(at + 512, at + 512 + size);
    const type = text(156, 1);
    if (type === 'L') longName = body.toString('utf8').replace(/\0.*$/s, '');
    else {
      if (type === '0' || type === '') files.set(longName ?? name, body);
      longName = undefined;
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

type Header = {
  readonly path: string;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly target: string;
};

function header(fields: Header, size: number): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, length, 'latin1');
  };
  block.write(fields.path, 0, 100, 'utf8');
  octal(fields.mode, 100, 8);
  octal(fields.uid, 108, 8);
  octal(fields.gid, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  block.write('        ', 148, 8, 'latin1');
  block.write(fields.type, 156, 1, 'latin1');
  block.write(fields.target, 157, 100, 'utf8');
  block.write('ustar\0' + '00', 257, 8, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return block;
}

function long(type: 'K' | 'L', text: string): Uint8Array[] {
  const body = Buffer.from(`${text}\0`);
  const fields = { path: '././@LongLink', type, mode: 0o644, uid: 0, gid: 0, target: '' };
  return [header(fields, body.length), body, padding(body.length)];
}

function padding(size: number): Buffer {
  return Buffer.alloc((512 - (size % 512)) % 512);
}
