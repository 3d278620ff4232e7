import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { until } from '../../scripts/lib/install-limpet.ts';

const servers: Server[] = [];
let folder: string;
let proxy: ReturnType<typeof spawn>;

/** Stands for a kubelet behind QEMU: says its name and gives back what it gets. */
async function kubelet(name: string): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (chunk: Buffer) => socket.end(`${name} got ${chunk.toString()}`));
  });
  servers.push(server);
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  return (server.address() as AddressInfo).port;
}

/** A machine, as far as the proxy looks at it. */
async function machine(name: string, address: string): Promise<void> {
  await mkdir(join(folder, 'nodes', name), { recursive: true });
  const forwards = [{ host: await kubelet(name), guest: 10250 }];
  const state = { address, forwards, image: {}, sockets: '' };
  await writeFile(join(folder, 'nodes', name, 'state.json'), JSON.stringify(state));
}

/** CONNECT, as the API server does it: the status and, if it is 200, the connection. */
async function connect(path: string): Promise<{ status: number; why: string; socket: Socket }> {
  const { promise, resolve, reject } = Promise.withResolvers<Awaited<ReturnType<typeof connect>>>();
  const asked = request({ socketPath: join(folder, 'egress.sock'), method: 'CONNECT', path });
  asked.on('connect', ({ statusCode = 0, statusMessage = '' }, socket: Socket) =>
    resolve({ status: statusCode, why: statusMessage, socket }),
  );
  asked.on('error', reject);
  asked.end();
  return await promise;
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'limpet-egress-'));
  await machine('one', '10.0.2.15');
  await machine('two', '10.0.2.16');
  await mkdir(join(folder, 'nodes', 'half-made'));
  const program = join(import.meta.dirname, '../../scripts/lib/egress.ts');
  proxy = spawn(process.execPath, [program, join(folder, 'egress.sock')], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, LIMPET_CACHE: folder },
  });
  const answers = async (): Promise<boolean> =>
    await connect('10.0.2.99:1').then(
      () => true,
      () => false,
    );
  await until('the proxy answers', answers, (yes) => yes, { timeoutMs: 20_000, everyMs: 50 });
});

after(async () => {
  proxy.kill('SIGKILL');
  for (const server of servers) server.close();
  await rm(folder, { recursive: true });
});

for (const [name, address] of [
  ['one', '10.0.2.15'],
  ['two', '10.0.2.16'],
] as const) {
  test(`${address} leads to the kubelet of the machine that has this address`, async () => {
    const { status, socket } = await connect(`${address}:10250`);
    assert.equal(status, 200);
    socket.write('a question');
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    assert.equal(Buffer.concat(chunks).toString(), `${name} got a question`);
  });
}

test('what no machine forwards is refused, with the reason', async () => {
  for (const target of ['10.0.2.15:22', '10.0.2.17:10250', '127.0.0.1:10250']) {
    const { status, why } = await connect(target);
    assert.equal(status, 502);
    assert.equal(why, `no virtual node forwards to ${target}`);
  }
});
