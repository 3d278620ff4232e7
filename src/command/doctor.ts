import { DEFAULT_OPTIONS } from '../agent/options.ts';
import { systemRandom } from '../base/random.ts';
import { BUILT_WALL_MS } from '../base/version.ts';
import { open, socketPath } from '../cri/open.ts';
import { examine } from '../doctor/index.ts';
import type { RuntimeAnswer } from '../doctor/machine.ts';
import type { NodeReport } from '../server/api.ts';
import { ask, SOCKET_OPTION } from './client.ts';
import { defineCommand, type Io } from './command.ts';
import { CommandFailed, EXIT } from './exit.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';
import { printable } from './table.ts';

/** Where kubeadm has it. */
const KUBECONFIG = '/etc/kubernetes/kubelet.conf';
const { rootDirectory: ROOT, runtimeEndpoint: RUNTIME } = DEFAULT_OPTIONS;

export const command = defineCommand({
  name: 'doctor',
  usage: '[--output json|yaml]',
  summary: 'Check this machine, and say what to do about what is wrong. The agent need not run.',
  details: `
"failed" is what keeps pods from running, "degraded" what they can live with. Exits with 1 when
something has failed. Some checks need root. Where the options name nothing, what holds is what the
agent was told, if it runs.`,
  options: {
    'root-dir': {
      type: 'string',
      value: 'DIR',
      help: `state of the agent, else ${ROOT}`,
    },
    'pod-manifest-path': {
      type: 'string',
      value: 'DIR',
      default: DEFAULT_OPTIONS.manifestDirectory,
      help: 'folder of static pods',
    },
    'container-runtime-endpoint': {
      type: 'string',
      value: 'URL',
      help: `of containerd or CRI-O, else ${RUNTIME}`,
    },
    kubeconfig: {
      type: 'string',
      value: 'FILE',
      help: `the way to the cluster; else ${KUBECONFIG}, if it is there`,
    },
    output: OUTPUT_OPTION,
  },
  examples: [
    ['sudo limpet doctor', 'all checks'],
    ['sudo limpet doctor -o json', 'for a fleet: look for "health": "failed"'],
  ],
  async run({ options }, io) {
    const format = outputFormat(options.output, ['json', 'yaml']);
    const agent = await askAgent(io);
    const endpoint = options['container-runtime-endpoint'] ?? agent?.runtime.socket ?? RUNTIME;
    const kubeconfig = options.kubeconfig ?? agent?.cluster?.kubeconfig;
    const findings = await examine({
      root: '',
      rootDirectory: options['root-dir'] ?? agent?.store.path ?? ROOT,
      manifestDirectory: options['pod-manifest-path'],
      runtimeSocket: socketPath(endpoint),
      kubeconfig: kubeconfig ?? KUBECONFIG,
      kubeconfigIsDefault: kubeconfig === undefined,
      clock: io.clock,
      signal: io.signal,
      earliestWallMs: BUILT_WALL_MS,
      askRuntime: async () => await askRuntime(endpoint, io),
    });
    const failed = findings.filter(({ health }) => health === 'failed').length;
    const degraded = findings.filter(({ health }) => health === 'degraded').length;
    if (format !== 'table') {
      await writeObject(io, format, { kind: 'DoctorReport', findings });
      return failed > 0 ? EXIT.failed : EXIT.ok;
    }
    const width = Math.max(...findings.map(({ check }) => check.length));
    for (const { health, check, message, remedy } of findings) {
      await io.out(`${health.padEnd(8)}  ${check.padEnd(width)}  ${printable(message)}\n`);
      if (remedy !== undefined) {
        await io.out(`${' '.repeat(width + 12)}-> ${printable(remedy)}\n`);
      }
    }
    const verdict =
      failed > 0
        ? `${failed} failed, ${degraded} degraded: pods will not run as they should.`
        : degraded > 0
          ? `${degraded} degraded: pods run, but see above.`
          : 'All is well.';
    await io.out(`\n${verdict}\n`);
    return failed > 0 ? EXIT.failed : EXIT.ok;
  },
});

/** What the agent was told by its flags and files, if it runs and may be asked. */
async function askAgent(io: Io): Promise<NodeReport | undefined> {
  try {
    const question = { method: 'GET', path: '/v1/status' } as const;
    return await ask<NodeReport>(SOCKET_OPTION.default, question, 'NodeReport', io);
  } catch (error) {
    if (error instanceof CommandFailed) return undefined;
    throw error;
  }
}

async function askRuntime(endpoint: string, io: Io): Promise<RuntimeAnswer> {
  await using cri = open(endpoint, { clock: io.clock, random: systemRandom() });
  const version = await cri.runtime.version(io.signal);
  return { version, conditions: (await cri.runtime.status(io.signal)).conditions };
}
