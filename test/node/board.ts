/**
 * A virtual board with limpet on it, and questions to it that are cheap: commands in an emulated
 * machine take seconds, so the harness asks the agent's socket through the ssh connection and
 * gathers many facts in one shell command.
 */
import { constants, copyFile, mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binaryFor, installLimpet, until } from '../../scripts/lib/install-limpet.ts';
import { run, type Finished } from '../../scripts/lib/process.ts';
import { sshArguments } from '../../scripts/lib/ssh.ts';
import {
  attach,
  list,
  up,
  type UpOptions,
  type VirtualNode,
} from '../../scripts/lib/virtual-node.ts';
import type { EventRecord } from '../../src/kube/event.ts';
import type { ContainerStatus } from '../../src/kube/pod.ts';
import type { ApplyReport, NodeReport, PodReport } from '../../src/server/api.ts';

const ROOT = join(import.meta.dirname, '../..');
const BUILD_TIMEOUT_MS = 600_000;
const ASK_TIMEOUT_MS = 30_000;

export type BoardOptions = Omit<UpOptions, 'name'> & {
  readonly suite: string;
  /** Changes the machine before limpet is installed. */
  readonly prepare?: (node: VirtualNode) => Promise<void>;
};

export type Answer = { readonly status: number; readonly body: unknown };

export type Board = AsyncDisposable & {
  readonly node: VirtualNode;
  /** A shell command in the machine; its output. Throws when it fails. */
  sh(command: string, timeoutMs?: number): Promise<string>;
  /** A command that may fail. */
  tell(command: string, input?: string): Promise<Finished>;
  /** The agent's socket. Throws while it does not answer. */
  ask(method: string, path: string, body?: string): Promise<Answer>;
  pods(): Promise<readonly PodReport[]>;
  pod(name: string): Promise<PodReport>;
  status(): Promise<NodeReport>;
  events(name?: string): Promise<readonly EventRecord[]>;
  /** Applies through the socket, as `limpet apply` does. Throws when it is refused. */
  apply(manifest: string): Promise<ApplyReport>;
  delete(name: string, graceSeconds?: number): Promise<void>;
  /** Asks for the pods until they are as they should be. */
  untilPods(
    what: string,
    so: (pods: readonly PodReport[]) => boolean,
    timeoutMs?: number,
  ): Promise<readonly PodReport[]>;
  /** Every container's first process: `pid:start time` by the container's id. */
  processes(): Promise<ReadonlyMap<string, string>>;
  /** The ids of the live containers of each pod, the sandbox's own among them, by the pod's uid. */
  containersByPod(): Promise<ReadonlyMap<string, readonly string[]>>;
  /** All that pods leave on a machine, one thing a line. */
  traces(): Promise<readonly string[]>;
  /** Has the socket at hand again after a boot. */
  reconnect(): Promise<void>;
  note(line: string): void;
};

/** Builds limpet, boots a machine, and installs limpet there. `await using` ends the machine. */
export async function openBoard(options: BoardOptions): Promise<Board> {
  const { suite, prepare, ...rest } = options;
  const arch = rest.arch ?? (process.arch === 'x64' ? 'amd64' : 'arm64');
  await run(
    process.execPath,
    [join(ROOT, 'scripts/build.ts'), '--arch', arch === 'amd64' ? 'x64' : 'arm64'],
    { timeoutMs: BUILD_TIMEOUT_MS },
  );
  const began = performance.now();
  const note = (line: string) => {
    const seconds = ((performance.now() - began) / 1000).toFixed(0).padStart(4);
    process.stdout.write(`# ${suite} ${seconds} s  ${line}\n`);
  };
  // For work on a suite: a machine that is there already, and stays.
  const kept = process.env['LIMPET_BOARD'];
  const name = kept ?? `${suite}-${process.pid}`;
  const there = kept !== undefined && (await list()).includes(kept);
  const node = there
    ? await attach(name)
    : await up({ ...rest, arch, name, say: note }).catch(async (error: unknown) => {
        if ((await list()).includes(name)) await (await attach(name)).down();
        throw error;
      });
  const folder = await mkdtemp(join(tmpdir(), 'limpet-board-'));
  const board = boardOf(node, join(folder, 'api'), note);
  const close = async () => {
    if (kept === undefined) await node.down();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await prepare?.(node);
    if (!(there && (await isInstalled(node)))) {
      await node.ssh('systemctl stop limpet', { check: false });
      await installLimpet(node, await copyOfBinary(arch, folder));
    }
    await board.reconnect();
    await until(
      'limpet answers',
      () =>
        board.status().then(
          () => true,
          () => false,
        ),
      (answers) => answers,
      { timeoutMs: 60_000 },
    );
    note('limpet is installed');
  } catch (error) {
    await close();
    throw error;
  }
  return { ...board, [Symbol.asyncDispose]: close };
}

/** Whether a machine that was kept has limpet; LIMPET_INSTALL=1 brings the newest there. */
async function isInstalled(node: VirtualNode): Promise<boolean> {
  if (process.env['LIMPET_INSTALL'] === '1') return false;
  const start = await node.ssh('systemctl start limpet', { check: false, timeoutMs: 60_000 });
  return start.code === 0;
}

/** A copy of the binary: a build that goes on meanwhile replaces the one in dist. */
async function copyOfBinary(arch: VirtualNode['arch'], folder: string): Promise<string> {
  const path = join(folder, 'limpet');
  await copyFile(binaryFor(arch), path, constants.COPYFILE_FICLONE);
  return path;
}

function boardOf(
  node: VirtualNode,
  socketPath: string,
  note: (line: string) => void,
): Omit<Board, typeof Symbol.asyncDispose> {
  const ask = (method: string, path: string, body?: string) =>
    exchange(socketPath, method, path, body).catch(async (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') note(await wayLost(node));
      throw error;
    });
  const good = async <T>(method: string, path: string, body?: string): Promise<T> => {
    const answer = await ask(method, path, body);
    if (answer.status >= 300) {
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    }
    return answer.body as T;
  };
  const pods = async () => (await good<{ items: readonly PodReport[] }>('GET', '/v1/pods')).items;
  const sh = async (command: string, timeoutMs = 120_000) =>
    (await node.ssh(command, { timeoutMs })).stdout;
  return {
    node,
    sh,
    tell: (command, input) =>
      node.ssh(command, {
        check: false,
        timeoutMs: 180_000,
        ...(input === undefined ? {} : { input }),
      }),
    ask,
    pods,
    pod: async (name) => {
      const found = (await pods()).find(({ pod }) => pod.metadata.name === name);
      if (found === undefined) throw new Error(`there is no pod ${name}`);
      return found;
    },
    status: () => good('GET', '/v1/status'),
    events: async (name) => {
      const query = name === undefined ? '' : `?name=${encodeURIComponent(name)}`;
      return (await good<{ items: readonly EventRecord[] }>('GET', `/v1/events${query}`)).items;
    },
    apply: (manifest) => good('POST', '/v1/pods', manifest),
    delete: async (name, graceSeconds) => {
      const query = graceSeconds === undefined ? '' : `?gracePeriodSeconds=${graceSeconds}`;
      await good('DELETE', `/v1/pods/default/${name}${query}`);
    },
    untilPods: (what, so, timeoutMs = 300_000) =>
      until(what, () => pods().catch(() => []), so, {
        timeoutMs,
        everyMs: 2000,
        show: (seen) => seen.map(described).join('\n'),
      }),
    processes: async () => processesOf(await sh(LIST_PROCESSES)),
    containersByPod: async () => containersOf(await sh(LIST_PROCESSES)),
    traces: async () =>
      (await sh(LIST_TRACES))
        .split('\n')
        .filter((line) => line !== '')
        .sort(),
    reconnect: async () => {
      await rm(socketPath, { force: true });
      const forward = ['-O', 'forward', '-o', 'StreamLocalBindUnlink=yes'];
      const route = ['-L', `${socketPath}:/run/limpet/limpet.sock`, 'root@127.0.0.1'];
      await run('ssh', [...sshArguments(node.way), ...forward, ...route], { timeoutMs: 20_000 });
    },
    note,
  };
}

/** What can be found out when the shared connection has ended: by one of its own. */
async function wayLost(node: VirtualNode): Promise<string> {
  const ask = 'uptime; journalctl -b --no-pager -n 15 -t sshd -t sshd-session -t kernel -t systemd';
  const found = await node
    .ssh(ask, { check: false, timeoutMs: 60_000 })
    .catch((error: unknown) => ({ stdout: String(error), stderr: '' }));
  const console = (await node.console().catch(String)).split('\n').slice(-8).join('\n');
  return `the way in was lost; the machine says: ${found.stdout}${found.stderr}\n${console}`;
}

/** One line about a pod, with what each of its containers does. */
export function described({ pod, status, summary }: PodReport): string {
  const all = [...status.initContainerStatuses, ...status.containerStatuses];
  const one = (c: ContainerStatus) => `${c.name}#${c.restartCount} ${JSON.stringify(c.state)}`;
  return `  ${pod.metadata.name}: ${summary} ${status.phase} ${all.map(one).join(', ')}`;
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: string | undefined,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const bytes = body === undefined ? undefined : Buffer.from(body);
  const request = httpRequest({
    socketPath,
    method,
    path,
    agent: false,
    signal: AbortSignal.timeout(ASK_TIMEOUT_MS),
    headers:
      bytes === undefined
        ? {}
        : { 'content-type': 'application/yaml', 'content-length': bytes.length },
  });
  request.on('response', (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => {
      try {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as unknown });
      } catch (error) {
        reject(error);
      }
    });
  });
  request.on('error', reject);
  request.end(bytes);
  return promise;
}

// No fork in the loop: in an emulated machine each costs 20 ms. Field 22 of /proc/PID/stat is the
// time of its start; its second field may hold spaces, so what follows the last `)` is split.
const LIST_PROCESSES = `
for f in $(find /sys/fs/cgroup/kubepods* -name cgroup.procs 2>/dev/null); do
  while read -r pid; do
    read -r line < /proc/$pid/stat || continue
    set -- \${line##*) }
    echo "$f $pid \${20}"
  done < $f
done 2>/dev/null; true`;

/** A container's first process is the oldest one in its cgroup. */
function processesOf(text: string): ReadonlyMap<string, string> {
  const oldest = new Map<string, { pid: number; start: number }>();
  for (const line of text.trim().split('\n')) {
    const [path = '', pid = '', start = ''] = line.split(' ');
    const id = /([0-9a-f]{64})(?:\.scope)?\/cgroup\.procs$/.exec(path)?.[1];
    if (id === undefined) continue;
    const before = oldest.get(id);
    const is = { pid: Number(pid), start: Number(start) };
    if (before === undefined || is.start < before.start) oldest.set(id, is);
  }
  return new Map([...oldest].map(([id, { pid, start }]) => [id, `${pid}:${start}`]));
}

function containersOf(text: string): ReadonlyMap<string, readonly string[]> {
  const byPod = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const found =
      /pod([0-9a-f_-]+)(?:\.slice)?\/(?:cri-containerd-)?([0-9a-f]{64})(?:\.scope)?\/cgroup\.procs /.exec(
        line,
      );
    if (found === null) continue;
    const uid = (found[1] ?? '').replaceAll('_', '-');
    const ids = byPod.get(uid) ?? [];
    byPod.set(uid, ids);
    if (!ids.includes(found[2] ?? '')) ids.push(found[2] ?? '');
  }
  return byPod;
}

const LIST_TRACES = `
ctr -n k8s.io containers ls -q | sed 's/^/container /'
ctr -n k8s.io tasks ls -q | sed 's/^/task /'
find /sys/fs/cgroup -type d -name '*pod*' | grep -v -E '/kubepods(.slice)?(/(kubepods-)?(burstable|besteffort)(.slice)?)?$' | sed 's/^/cgroup /'
grep -E 'kubernetes.io|/var/lib/limpet|/run/netns|k8s.io' /proc/mounts | cut -d' ' -f2 | sed 's/^/mount /'
ls /var/lib/limpet/pods 2>/dev/null | sed 's/^/pod directory /'
ls /var/log/pods 2>/dev/null | sed 's/^/pod log /'
ls /var/log/containers 2>/dev/null | sed 's/^/log link /'
find /var/lib/cni/networks -type f -name '[0-9]*' 2>/dev/null | sed 's/^/lease /'
find /var/lib/cni/results -type f 2>/dev/null | sed 's/^/cni result /'
ls /run/netns 2>/dev/null | sed 's/^/netns /'
iptables-save -t nat 2>/dev/null | grep -E '^-A CNI-(DN|HOSTPORT-DNAT)' | grep -v MASQ | sed 's/^/rule /'
true`;

/** A container of a manifest. */
export type ContainerText = {
  readonly name?: string;
  readonly script?: string;
  readonly command?: readonly string[];
  /** Further fields. */
  readonly more?: object;
};

/** The image that is in every virtual node. */
export const IMAGE = 'limpet.local/busybox:1';

/** Goes on for ever and ends at once when it is told to. */
export const FOREVER = 'trap "exit 0" TERM; while true; do sleep 3600 & wait $!; done';

/** A container as it stands in a manifest. */
export function container({ name = 'main', script, command, more }: ContainerText): object {
  return {
    name,
    image: IMAGE,
    command: command ?? ['sh', '-c', script ?? FOREVER],
    ...more,
  };
}

/** A pod of one container unless `spec` has others, as a manifest. JSON is YAML. */
export function podText(name: string, script: string | undefined, spec: object = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      terminationGracePeriodSeconds: 2,
      containers: [container(script === undefined ? {} : { script })],
      ...spec,
    },
  });
}

/** Several manifests as one. */
export function together(...manifests: readonly string[]): string {
  // What begins with a brace is read as one JSON text.
  return manifests.map((manifest) => `---\n${manifest}\n`).join('');
}

export function statusesOf({ status }: PodReport): readonly ContainerStatus[] {
  return [...status.initContainerStatuses, ...status.containerStatuses];
}

export function isReady({ status }: PodReport): boolean {
  return status.conditions.some((c) => c.type === 'Ready' && c.status === 'True');
}

export function nameOf({ pod }: PodReport): string {
  return pod.metadata.name;
}

/** The pod of this name that is not being ended. */
export function live(pods: readonly PodReport[], name: string): PodReport | undefined {
  return pods.find((report) => nameOf(report) === name && !report.deleting);
}

/** Waits, for what cannot be asked. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What containers wrote, by `pod/container`, without what the runtime adds to each line. */
export async function logsOf(board: Board): Promise<ReadonlyMap<string, string>> {
  const text = await board.sh("grep -r '' /var/log/pods --include=*.log || true");
  const logs = new Map<string, string>();
  for (const line of text.split('\n')) {
    const found =
      /^\/var\/log\/pods\/[^_/]+_([^_/]+)_[^/]+\/([^/]+)\/\d+\.log:\S+ \S+ \S (.*)$/.exec(line);
    if (found === null) continue;
    const key = `${found[1]}/${found[2]}`;
    logs.set(key, `${logs.get(key) ?? ''}${found[3]}\n`);
  }
  return logs;
}

/** Ends all pods and waits until they are gone. */
export async function clear(board: Board): Promise<void> {
  await board.sh('find /etc/kubernetes/manifests -mindepth 1 -delete');
  const begun = await board.pods();
  for (const { pod, source } of begun) {
    if (source === 'file') continue;
    await board.delete(pod.metadata.name, 1).catch(async (error: unknown) => {
      // One that is being ended anyway may be gone since it was listed.
      if ((await board.pods()).some((one) => one.pod.metadata.uid === pod.metadata.uid))
        throw error;
    });
  }
  await board.untilPods('all pods are gone', (pods) => pods.length === 0);
}
