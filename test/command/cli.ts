/** Runs the command line as a user does, from its source. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const MAIN = join(import.meta.dirname, '../../src/main.ts');

export type Ran = { readonly code: number; readonly out: string; readonly err: string };

export type Call = {
  readonly input?: string | Buffer;
  /** The name that it is called by. */
  readonly argv0?: string;
  readonly program?: string;
};

export async function limpet(
  args: readonly string[],
  { input, argv0, program = process.execPath }: Call = {},
): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  const child = spawn(program, [MAIN, ...args], {
    stdio: 'pipe',
    ...(argv0 !== undefined && { argv0 }),
  });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (out += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (err += chunk));
  child.on('close', (code, signal) => {
    resolve({ code: code ?? (signal === null ? -1 : -2), out, err });
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? '');
  return await promise;
}
