/** What a container sees of its pod and its node, and what the kernel is told of it. */
import assert from 'node:assert/strict';
import type { Board } from '../board.ts';
import { container, isReady, live, logsOf, podText, statusesOf, together } from '../board.ts';
import type { Cases } from './case.ts';

const once = { restartPolicy: 'Never' };

const NAMESPACES =
  'for n in net pid ipc uts; do echo "$n $(readlink /proc/self/ns/$n)"; done; echo "name $(hostname)"';

/** A pod that runs one script to its end. */
function probe(name: string, script: string, spec: object = {}, more: object = {}): string {
  return podText(name, undefined, {
    ...once,
    containers: [container({ script, more })],
    ...spec,
  });
}

const facts = probe(
  'facts',
  [
    'echo "pwd $(pwd)"',
    'echo "env $PLAIN $JOINED $ESCAPED $UNKNOWN"',
    'echo "args $0 $1"',
    'echo "name $(hostname)"',
    'sed "s/^/hosts /" /etc/hosts',
    'sed "s/^/dns /" /etc/resolv.conf',
    'echo -n "last words" > /dev/termination-log',
    'exit 3',
  ].join('; '),
  {
    hostname: 'other-name',
    subdomain: 'sub',
    hostAliases: [{ ip: '10.9.8.7', hostnames: ['far', 'away'] }],
    dnsPolicy: 'None',
    dnsConfig: {
      nameservers: ['192.0.2.53'],
      searches: ['example.test'],
      options: [{ name: 'ndots', value: '3' }],
    },
  },
  {
    args: ['$(PLAIN)-zero', 'one'],
    workingDir: '/home/user',
    env: [
      { name: 'PLAIN', value: 'plain' },
      { name: 'JOINED', value: 'a-$(PLAIN)-b' },
      { name: 'ESCAPED', value: '$$(PLAIN)' },
      { name: 'UNKNOWN', value: '$(NOBODY)' },
    ],
  },
);

const CAPABILITIES = 'grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status';

const user = probe(
  'user',
  `id; touch /x 2>&1; ${CAPABILITIES}; grep Seccomp: /proc/self/status`,
  { securityContext: { runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000] } },
  { securityContext: { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false } },
);

const caps = probe(
  'caps',
  CAPABILITIES,
  {},
  {
    securityContext: { capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] } },
  },
);

const privileged = probe(
  'privileged',
  `${CAPABILITIES}; ls /dev/vda; mount -t tmpfs none /mnt 2>&1 || mount -t tmpfs none /tmp && echo mounted`,
  {},
  { securityContext: { privileged: true } },
);

const host = probe('host', NAMESPACES, { hostNetwork: true, hostPID: true, hostIPC: true });
const own = podText('own', undefined, {
  ...once,
  shareProcessNamespace: true,
  containers: [
    container({ name: 'first', script: `${NAMESPACES}; sleep 20` }),
    container({ name: 'second', script: `sleep 6; ${NAMESPACES}; ps | grep -c 'sleep 20'` }),
  ],
});

const volumes = podText('volumes', undefined, {
  ...once,
  initContainers: [
    container({
      name: 'write',
      script: 'echo shared > /disk/file; echo volatile > /memory/file',
      more: {
        volumeMounts: [
          { name: 'disk', mountPath: '/disk' },
          { name: 'memory', mountPath: '/memory' },
        ],
      },
    }),
  ],
  containers: [
    container({
      script: [
        'cat /disk/file /memory/file',
        'grep -E " /(disk|memory|made|ro) " /proc/mounts',
        'echo from-container > /made/here',
        'echo more >> /made-file',
        '(echo no > /ro/file) 2>&1',
        'test -S /socket && echo socket',
        'test -c /null && echo char',
        'test -b /block && echo block',
        'cat /known/os-release | head -n 1',
      ].join('; '),
      more: {
        volumeMounts: [
          { name: 'disk', mountPath: '/disk' },
          { name: 'memory', mountPath: '/memory' },
          { name: 'made', mountPath: '/made' },
          { name: 'made', mountPath: '/ro', readOnly: true },
          { name: 'made-file', mountPath: '/made-file' },
          { name: 'known', mountPath: '/known', readOnly: true },
          { name: 'socket', mountPath: '/socket' },
          { name: 'null', mountPath: '/null' },
          { name: 'block', mountPath: '/block' },
        ],
      },
    }),
  ],
  volumes: [
    { name: 'disk', emptyDir: {} },
    { name: 'memory', emptyDir: { medium: 'Memory', sizeLimit: '8Mi' } },
    { name: 'made', hostPath: { path: '/var/lib/made', type: 'DirectoryOrCreate' } },
    { name: 'made-file', hostPath: { path: '/var/lib/made-file', type: 'FileOrCreate' } },
    { name: 'known', hostPath: { path: '/usr/lib', type: 'Directory' } },
    {
      name: 'socket',
      hostPath: { path: '/run/containerd/containerd.sock', type: 'Socket' },
    },
    { name: 'null', hostPath: { path: '/dev/null', type: 'CharDevice' } },
    { name: 'block', hostPath: { path: '/dev/vda', type: 'BlockDevice' } },
  ],
});

const DATA = { volumeMounts: [{ name: 'data', mountPath: '/data' }] };
const APPEND = (word: string) => `echo ${word} >> /data/order`;

const order = podText('order', undefined, {
  ...once,
  terminationGracePeriodSeconds: 20,
  initContainers: [
    container({ name: 'one', script: `sleep 1; ${APPEND('one')}`, more: DATA }),
    container({
      name: 'side',
      script: `${APPEND('side')}; trap '${APPEND('side-stopped')}; exit 0' TERM; while true; do sleep 60 & wait $!; done`,
      more: { ...DATA, restartPolicy: 'Always' },
    }),
    container({ name: 'two', script: APPEND('two'), more: DATA }),
  ],
  containers: [container({ script: `sleep 2; ${APPEND('main')}`, more: DATA })],
  volumes: [{ name: 'data', hostPath: { path: '/var/lib/order', type: 'DirectoryOrCreate' } }],
});

async function contents(board: Board): Promise<void> {
  const all = [facts, user, caps, privileged, host, own, volumes, order];
  await board.sh('rm -rf /var/lib/made /var/lib/made-file /var/lib/order');
  await board.apply(together(...all));
  const pods = await board.untilPods(
    'eight pods have run to their end',
    (seen) =>
      seen.length === all.length &&
      seen.every(({ status }) => status.phase === 'Succeeded' || status.phase === 'Failed'),
    600_000,
  );
  const logs = await logsOf(board);
  const log = (name: string) => logs.get(name) ?? '';
  const phase = (name: string) => live(pods, name)?.status.phase;

  assert.equal(phase('facts'), 'Failed');
  const ended = live(pods, 'facts')?.status.containerStatuses[0]?.state.terminated;
  assert.equal(ended?.exitCode, 3);
  assert.equal(ended?.reason, 'Error');
  assert.equal(ended?.message, 'last words');
  const seen = log('facts/main');
  assert.match(seen, /^pwd \/home\/user$/m);
  assert.match(seen, /^env plain a-plain-b \$\(PLAIN\) \$\(NOBODY\)$/m);
  assert.match(seen, /^args plain-zero one$/m);
  assert.match(seen, /^name other-name$/m);
  const ip = live(pods, 'facts')?.status.podIP ?? '';
  assert.match(seen, /^hosts 127\.0\.0\.1\s+localhost$/m);
  assert.match(
    seen,
    /^hosts 10\.88\.\d+\.\d+\s+other-name\.sub\.default\.svc\.cluster\.local\s+other-name$/m,
  );
  if (ip !== '') assert.ok(seen.includes(`hosts ${ip}`), `the hosts file has ${ip}`);
  assert.match(seen, /^hosts 10\.9\.8\.7\s+far\s+away$/m);
  assert.match(seen, /^dns nameserver 192\.0\.2\.53$/m);
  assert.match(seen, /^dns search example\.test$/m);
  assert.match(seen, /^dns options ndots:3$/m);

  assert.match(log('user/main'), /uid=1000\S* gid=3000.*4000/);
  assert.match(log('user/main'), /touch: \/x: Read-only file system/);
  assert.match(log('user/main'), /CapEff:\t0000000000000000/);
  assert.match(log('user/main'), /NoNewPrivs:\t1/);
  assert.match(log('caps/main'), /CapEff:\t0000000000001000/);
  assert.match(log('caps/main'), /NoNewPrivs:\t0/);
  assert.match(log('privileged/main'), /CapEff:\t000001ffffffffff/);
  assert.match(log('privileged/main'), /\/dev\/vda/);
  assert.match(log('privileged/main'), /mounted/);

  const node = await board.sh(NAMESPACES);
  assert.equal(withoutUts(log('host/main')), withoutUts(node));
  const [first, second] = [log('own/first'), log('own/second')];
  for (const kind of ['net', 'ipc', 'pid']) {
    const line = (text: string) => new RegExp(`^${kind} .*$`, 'm').exec(text)?.[0];
    assert.notEqual(line(first), undefined);
    assert.equal(line(first), line(second), `the containers share ${kind}`);
    assert.notEqual(line(first), line(node), `the pod has its own ${kind}`);
  }
  assert.match(first, /^name own$/m);
  assert.ok(Number(/^(\d+)$/m.exec(second)?.[1] ?? '0') > 0, 'it sees its neighbour');

  const stored = log('volumes/main');
  assert.match(stored, /^shared\nvolatile$/m);
  assert.match(stored, /^tmpfs \/memory tmpfs rw,.*size=8192k/m);
  assert.match(stored, / \/ro \S+ ro,/);
  assert.match(stored, /\/ro\/file: Read-only file system/);
  assert.match(stored, /^socket\nchar\nblock$/m);
  assert.match(stored, /^PRETTY_NAME/m);
  assert.equal(
    await board.sh('cat /var/lib/made/here /var/lib/made-file'),
    'from-container\nmore\n',
  );

  assert.equal(phase('order'), 'Succeeded');
  assert.equal(await board.sh('cat /var/lib/order/order'), 'one\nside\ntwo\nmain\nside-stopped\n');
  const side = live(pods, 'order')?.status.initContainerStatuses.find((c) => c.name === 'side');
  assert.equal(side?.restartCount, 0);
}

const field = (fieldPath: string) => ({ fieldRef: { fieldPath } });
const resource = (name: string, divisor?: string) => ({
  resourceFieldRef: { containerName: 'main', resource: name, ...(divisor && { divisor }) },
});

const self = podText('self', undefined, {
  ...once,
  securityContext: { runAsUser: 1000, fsGroup: 2000 },
  containers: [
    container({
      script: [
        'echo "env $NAME $UID_ $NODE $POD_IP $HOST_IP $CPUS $MEMORY $LATER"',
        'echo "files $(cat /self/name) $(cat /self/of/memory) $(cat /all/cpu)"',
        'echo "modes $(stat -L -c %a:%u:%g /self/name /all/cpu | tr "\\n" " ")"',
        '(echo no > /self/name) 2>&1',
        'grep -E " /(self|all) " /proc/mounts',
      ].join('; '),
      more: {
        resources: { limits: { memory: '32Mi' } },
        env: [
          { name: 'NAME', valueFrom: field('metadata.name') },
          { name: 'UID_', valueFrom: field('metadata.uid') },
          { name: 'NODE', valueFrom: field('spec.nodeName') },
          { name: 'POD_IP', valueFrom: field('status.podIP') },
          { name: 'HOST_IP', valueFrom: field('status.hostIP') },
          { name: 'CPUS', valueFrom: resource('limits.cpu') },
          { name: 'MEMORY', valueFrom: resource('limits.memory', '1Mi') },
          { name: 'LATER', value: '$(NAME)-later' },
        ],
        volumeMounts: [
          { name: 'self', mountPath: '/self' },
          { name: 'all', mountPath: '/all' },
        ],
      },
    }),
  ],
  volumes: [
    {
      name: 'self',
      downwardAPI: {
        items: [
          { path: 'name', mode: 0o400, ...field('metadata.name') },
          { path: 'of/memory', ...resource('limits.memory') },
        ],
      },
    },
    {
      name: 'all',
      projected: {
        sources: [{ downwardAPI: { items: [{ path: 'cpu', ...resource('limits.cpu') }] } }],
      },
    },
  ],
});

/** What a container is told of its own pod, without an API server. */
async function ofItself(board: Board): Promise<void> {
  await board.apply(self);
  const pods = await board.untilPods(
    'the pod has run to its end',
    (seen) => live(seen, 'self')?.status.phase === 'Succeeded',
  );
  const { pod, status } = live(pods, 'self')!;
  const cpus = (await board.sh('nproc')).trim();
  const log = (await logsOf(board)).get('self/main') ?? '';
  const told = ['self', pod.metadata.uid, board.node.name, status.podIP, status.hostIP, cpus, '32'];
  assert.ok(log.includes(`env ${told.join(' ')} self-later\n`), log);
  assert.ok(log.includes(`files self 33554432 ${cpus}\n`), log);
  assert.match(log, /^modes 440:0:2000 644:0:2000 $/m);
  assert.match(log, /\/self\/name: Read-only file system/);
  assert.equal(log.match(/^tmpfs \/(self|all) tmpfs ro,/gm)?.length, 2, log);
}

function withoutUts(text: string): string {
  return text.replace(/^uts .*\n/m, '');
}

const QUARTER = { cpu: '250m', memory: '32Mi' };

/** What must be in the kernel's files, by class, for both cgroup drivers. */
async function cgroups(board: Board): Promise<void> {
  const driver = (await board.status()).cgroupDriver;
  const resources = (of: object) => [container({ more: { resources: of } })];
  await board.apply(
    together(
      podText('guaranteed', undefined, {
        containers: resources({ limits: QUARTER, requests: QUARTER }),
      }),
      podText('burstable', undefined, {
        containers: resources({
          requests: { cpu: '100m', memory: '16Mi' },
          limits: { memory: '64Mi' },
        }),
      }),
      podText('best-effort', undefined),
    ),
  );
  const pods = await board.untilPods(
    'three pods run',
    (seen) => seen.length === 3 && seen.every(isReady),
  );
  const read = async (name: string) => {
    const report = live(pods, name);
    assert.ok(report);
    const { uid } = report.pod.metadata;
    const id = report.status.containerStatuses[0]?.containerID?.replace('containerd://', '') ?? '';
    const qos = report.status.qosClass;
    const middle = qos === 'Guaranteed' ? '' : qos.toLowerCase();
    const escaped = uid.replaceAll('-', '_');
    const folder =
      driver === 'systemd'
        ? '/sys/fs/cgroup/kubepods.slice/' +
          (middle === '' ? '' : `kubepods-${middle}.slice/`) +
          `kubepods-${middle === '' ? '' : `${middle}-`}pod${escaped}.slice`
        : `/sys/fs/cgroup/kubepods/${middle === '' ? '' : `${middle}/`}pod${uid}`;
    const leaf = driver === 'systemd' ? `cri-containerd-${id}.scope` : id;
    const files = ['cpu.max', 'cpu.weight', 'memory.max', 'pids.max'];
    const paths = files.flatMap((file) => [`${folder}/${file}`, `${folder}/${leaf}/${file}`]);
    const text = await board.sh(`for f in ${paths.join(' ')}; do read -r l < $f; echo "$l"; done`);
    const values = text.trim().split('\n');
    const at = (level: number) =>
      Object.fromEntries(files.map((file, index) => [file, values[index * 2 + level]]));
    return { pod: at(0), container: at(1), qos };
  };
  const guaranteed = await read('guaranteed');
  assert.equal(guaranteed.qos, 'Guaranteed');
  for (const level of [guaranteed.pod, guaranteed.container]) {
    assert.equal(level['cpu.max'], '25000 100000');
    assert.equal(level['memory.max'], String(32 * 1024 * 1024));
  }
  const burstable = await read('burstable');
  assert.equal(burstable.qos, 'Burstable');
  for (const level of [burstable.pod, burstable.container]) {
    assert.equal(level['cpu.max'], 'max 100000');
    assert.equal(level['memory.max'], String(64 * 1024 * 1024));
  }
  const bestEffort = await read('best-effort');
  assert.equal(bestEffort.qos, 'BestEffort');
  for (const level of [bestEffort.pod, bestEffort.container]) {
    assert.equal(level['memory.max'], 'max');
    assert.equal(level['cpu.max'], 'max 100000');
    assert.equal(level['cpu.weight'], '1');
  }
  const weight = (level: Record<string, string | undefined>) => Number(level['cpu.weight']);
  assert.ok(weight(guaranteed.pod) > weight(burstable.pod), 'a larger request weighs more');
  assert.ok(weight(burstable.pod) > weight(bestEffort.pod));
  // The kernel means it: what allocates more than its limit is killed, and its neighbours are not.
  const others = await board.processes();
  await board.apply(
    podText('greedy', undefined, {
      restartPolicy: 'Never',
      containers: [
        container({
          script: 'exec tail /dev/zero',
          more: { resources: { limits: { memory: '32Mi' } } },
        }),
      ],
    }),
  );
  const after = await board.untilPods(
    'the greedy pod has failed',
    (seen) => live(seen, 'greedy')?.status.phase === 'Failed',
  );
  const greedy = statusesOf(live(after, 'greedy')!)[0]?.state.terminated;
  assert.equal(greedy?.reason, 'OOMKilled');
  assert.equal(greedy?.exitCode, 137);
  const now = await board.processes();
  for (const [id, process] of others) assert.equal(now.get(id), process);
}

export const contentCases: Cases = {
  'what a container sees': contents,
  'what a container is told of itself': ofItself,
  'cgroups hold what the manifest says': cgroups,
};
export { cgroups };
