import { open } from 'node:fs/promises';
import { errnoOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { ApplyReport } from '../server/api.ts';
import { ask, SOCKET_OPTION } from './client.ts';
import { defineCommand, type Io } from './command.ts';
import { CommandFailed, EXIT, usageError } from './exit.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';

export const command = defineCommand({
  name: 'apply',
  usage: '--filename FILE|- [--filename FILE …]',
  summary: 'Take pods from manifests. When it returns they are stored, and survive a power cut.',
  details: `
A manifest is YAML (several documents, or a List) or JSON, with kind Pod. What is already so is left
alone; where the spec differs, the old pod ends before the new one starts. Of several files each is
taken or refused on its own.`,
  options: {
    filename: {
      type: 'string',
      short: 'f',
      multiple: true,
      value: 'FILE',
      help: 'manifest; - is standard input; may be given several times',
    },
    output: OUTPUT_OPTION,
    socket: SOCKET_OPTION,
  },
  examples: [
    ['sudo limpet apply -f web.yaml', 'one pod'],
    ['sudo limpet apply -f a.yaml -f b.yaml', 'several files'],
    ['kubectl get pod web -o yaml | sudo limpet apply -f -', 'from elsewhere'],
  ],
  async run({ options, words }, io) {
    const format = outputFormat(options.output, ['json', 'yaml']);
    const [word] = words;
    if (word !== undefined) throw usageError(`did you mean: limpet apply -f ${word}`);
    if (options.filename.length === 0) throw usageError('which manifest? give it with -f FILE');
    const items: ApplyReport['items'][number][] = [];
    let worst: number = EXIT.ok;
    for (const file of options.filename) {
      try {
        const body = await readManifest(file, io);
        const question = { method: 'POST', path: '/v1/pods', body } as const;
        const report = await ask<ApplyReport>(options.socket, question, 'ApplyReport', io);
        items.push(...report.items);
        if (format !== 'table') continue;
        await io.out(report.items.map(({ name, action }) => `pod/${name} ${action}\n`).join(''));
      } catch (error) {
        if (!(error instanceof CommandFailed) || error.exitCode === EXIT.unreachable) throw error;
        io.err(`limpet: ${shown(file)}: ${error.message}\n`);
        const named = error.lines.map((line) => line.replace(/^manifest(?=:)/, shown(file)));
        io.err(named.map((line) => `  ${line}\n`).join(''));
        worst = EXIT.failed;
      }
    }
    if (format !== 'table') await writeObject(io, format, { kind: 'ApplyReport', items });
    return worst;
  },
});

function shown(file: string): string {
  return file === '-' ? 'standard input' : file;
}

/** Reads no more than a manifest may have, from whatever the user named (a pipe too). */
async function readManifest(file: string, io: Io): Promise<Uint8Array> {
  const limit = LIMITS.manifestBytes;
  if (file === '-') return await io.input(limit);
  try {
    await using handle = await open(file, 'r');
    if ((await handle.stat()).isDirectory()) {
      throw new CommandFailed(EXIT.failed, 'is a directory: name the files in it');
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(64 * 1024));
      if (bytesRead === 0) return Buffer.concat(chunks);
      bytes += bytesRead;
      if (bytes > limit) {
        throw new CommandFailed(
          EXIT.failed,
          `is larger than ${limit} bytes, the most a manifest has`,
        );
      }
      chunks.push(buffer.subarray(0, bytesRead));
    }
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    const reason = errnoOf(error) === 'ENOENT' ? 'there is no such file' : String(error);
    throw new CommandFailed(EXIT.failed, reason);
  }
}
