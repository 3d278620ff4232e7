/**
 * What the executable runs first. It gets V8 ready for a long life on a small board, where this will be
 * the agent, and then runs the program, `main.ts`, which is an asset of the executable.
 */
import { basename } from 'node:path';
import { getRawAsset } from 'node:sea';
import { Script } from 'node:vm';
import type { CompiledCode } from './base/compiled-code.ts';

/** Written by `scripts/build`: a hash of the program. */
declare const LIMPET_PROGRAM: string;

type Program = (
  load: NodeJS.Require,
  module: NodeJS.Module,
  exports: unknown,
  code: CompiledCode | undefined,
) => void;

/**
 * What the agent needs of Node. It is loaded before V8's flags change: what Node has compiled of itself
 * beforehand fits the flags that V8 starts with alone, and compiling it takes twice as long.
 */
const NEEDED = [
  ...['fs/promises', 'net', 'http2', 'http', 'https', 'os', 'crypto', 'tls', 'child_process'],
  ...['zlib', 'util', 'stream', 'events', 'v8', 'ffi'],
];

/**
 * What was compiled for the start alone is let go after two collections of garbage instead of six. The
 * optimizing compilers would cost a third of what limpet takes to start ten pods, on the processor
 * that the pods want, and little of what they make would be used again.
 */
const FLAGS = ['--bytecode-old-age=2', '--no-opt', '--no-maglev'];

function compile(cachedData?: Buffer): Script {
  const program = Buffer.from(getRawAsset('limpet.js')).toString('latin1');
  return new Script(program, { filename: 'limpet.js', ...(cachedData && { cachedData }) });
}

function run(script: Script, code: CompiledCode | undefined): void {
  (script.runInThisContext() as Program)(require, module, exports, code);
}

async function runAgent(): Promise<void> {
  for (const name of NEEDED) process.getBuiltinModule(`node:${name}`);
  const { setFlagsFromString } = process.getBuiltinModule('node:v8');
  for (const flag of FLAGS) setFlagsFromString(flag);
  // systemd makes both for limpet.service.
  const { STATE_DIRECTORY: directory, RUNTIME_DIRECTORY: runDirectory } = process.env;
  if (directory === undefined || runDirectory === undefined) {
    run(compile(), undefined);
    return;
  }
  const { withCompiledCode } = await import('./base/compiled-code.ts');
  const place = { directory, runDirectory, program: LIMPET_PROGRAM };
  const { script, code } = withCompiledCode(place, compile);
  run(script, code);
}

if (process.argv[2] === 'run' || basename(process.argv0) === 'kubelet') void runAgent();
else run(compile(), undefined);
