/** The CRI's own descriptor, out of the Go module that defines it. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { cached, filesOf, keyOf } from '../../scripts/lib/cache.ts';
import type { Enumeration, Field, Message } from '../../src/cri/codec.ts';

export type DescribedField = {
  readonly number: number;
  readonly kind: string;
  readonly repeated: boolean;
  readonly type?: string;
};

export type Descriptor = {
  readonly messages: Readonly<Record<string, Readonly<Record<string, DescribedField>>>>;
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly methods: Readonly<
    Record<
      string,
      { readonly request: string; readonly response: string; readonly stream: boolean }
    >
  >;
};

const MODULE = join(import.meta.dirname, 'cri-descriptor');

/** Runs the Go module, once for each state of it: its output is kept in the cache. */
export async function readDescriptor(): Promise<Descriptor> {
  const directory = await cached('cri-descriptor', keyOf(await filesOf([MODULE])), async (to) => {
    const { stdout } = await promisify(execFile)('go', ['run', '.'], {
      cwd: MODULE,
      env: { ...process.env, GOFLAGS: '-mod=readonly' },
      maxBuffer: 16 * 1024 * 1024,
    }).catch((error: NodeJS.ErrnoException & { stderr?: string }) => {
      const why = error.code === 'ENOENT' ? 'there is no go' : (error.stderr ?? error.message);
      throw new Error(
        `can't read the CRI's descriptor: ${why.trim()} (Go 1.21 or later is needed: ` +
          'apt-get install golang-go)',
      );
    });
    await writeFile(join(to, 'descriptor.json'), stdout);
  });
  return JSON.parse(await readFile(join(directory, 'descriptor.json'), 'utf8')) as Descriptor;
}

const KINDS: Partial<Record<Field['kind'], DescribedField['kind']>> = {
  // What is a bigint or a wrapped number on our side only.
  bigint: 'int64',
  int64Value: 'message',
};

/** Every way in which our table of a message differs from the descriptor; empty when it does not. */
export function differences(message: Message, descriptor: Descriptor): readonly string[] {
  const described = descriptor.messages[message.name];
  if (described === undefined) return [`${message.name}: there is no such message`];
  return Object.entries(message.fields).flatMap(([key, field]) => {
    const name = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const theirs = described[name];
    const where = `${message.name}.${name}`;
    if (theirs === undefined) return [`${where}: there is no such field`];
    return fieldDifferences(field, theirs).map((what) => `${where}: ${what}`);
  });
}

function fieldDifferences(field: Field, theirs: DescribedField): string[] {
  const found: string[] = [];
  const compare = (what: string, ours: unknown, other: unknown) => {
    if (ours !== other) found.push(`${what} ${String(ours)}, in the CRI ${String(other)}`);
  };
  compare('number', field.number, theirs.number);
  compare('type', KINDS[field.kind] ?? field.kind, theirs.kind);
  compare('repeated', field.repeated, theirs.repeated);
  compare('of', typeOf(field), theirs.type);
  return found;
}

function typeOf(field: Field): string | undefined {
  if (field.kind === 'map') return 'string,string';
  if (field.kind === 'int64Value') return 'Int64Value';
  return field.message?.name ?? field.enumeration?.name;
}

/** As `differences`, for an enum: ours must have the same values, and all of them. */
export function enumDifferences(
  enumeration: Enumeration,
  descriptor: Descriptor,
): readonly string[] {
  const theirs = descriptor.enums[enumeration.name];
  if (theirs === undefined) return [`${enumeration.name}: there is no such enum`];
  const names = new Set([...Object.keys(theirs), ...Object.keys(enumeration.values)]);
  return [...names].flatMap((name) => {
    const ours = enumeration.values[name];
    if (ours === theirs[name]) return [];
    return [`${enumeration.name}.${name}: ${String(ours)}, in the CRI ${String(theirs[name])}`];
  });
}
