// The command line of the control plane. The thing itself is in lib/control-plane.ts.
import { spawn } from 'node:child_process';
import { attach, list, up } from './lib/control-plane.ts';
import { kubernetes, programs, programsOfNode, type Program } from './lib/kubernetes.ts';

const help = `A real Kubernetes control plane on this host, for virtual nodes to join.

  scripts/control-plane up               start a new one; builds what is missing (20 minutes, once)
  scripts/control-plane token            print the command that makes a machine a node
  scripts/control-plane kubectl ARG…     run kubectl as system:masters
  scripts/control-plane status           print all control planes and their processes
  scripts/control-plane down             end it and delete all that it stored
  scripts/control-plane build [--arch amd64|arm64] [PROGRAM…]
                                         only build; prints where each program is

  --name NAME   before the command: another one than "main"; several may run at once

Programs: ${programs.join(' ')}
For another architecture than this host's these are built unless told: ${programsOfNode.join(' ')}
They are used from KUBEBUILDER_ASSETS or the PATH where they are of exactly the right version.

Examples:
  scripts/control-plane up
  scripts/virtual-node up pi --containerd 2 --forward 0:10250
  scripts/control-plane kubectl get nodes --output wide
  scripts/control-plane --name two up
  scripts/control-plane build --arch arm64

Virtual nodes reach the API server at 10.0.2.2; it reaches a node that forwards its port 10250.
Everything is kept in ~/.cache/limpet (LIMPET_CACHE names another place). Exit codes: 0 done,
1 failed, 2 wrong arguments; "kubectl" ends with kubectl's own.
`;

class Misuse extends Error {}

const started = performance.now();

function say(line: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stderr.write(`[${seconds.padStart(6)} s] ${line}\n`);
}

async function main(args: readonly string[]): Promise<number> {
  const named = args[0] === '--name';
  const name = named ? needed(args[1], 'NAME') : 'main';
  const [command, ...rest] = named ? args.slice(2) : args;
  if (command === undefined || command === 'help' || command === '--help' || command === '-h') {
    process.stdout.write(help);
    return command === undefined ? 2 : 0;
  }
  // Everything after it is kubectl's own.
  if (command === 'kubectl') return await kubectl(name, rest);
  if (command === 'build') return await build(rest);
  if (rest[0] === '--help') {
    process.stdout.write(help);
    return 0;
  }
  if (rest.length > 0) throw new Misuse(`"${command}" takes no arguments; --name goes before it`);
  switch (command) {
    case 'up': {
      await up(name, say);
      return 0;
    }
    case 'token':
      process.stdout.write(`${(await (await attach(name)).joinCommand()).join(' ')}\n`);
      return 0;
    case 'status':
      return await status();
    case 'down':
      await (await attach(name)).down();
      return 0;
    default:
      throw new Misuse(`there is no command "${command}"; see scripts/control-plane --help`);
  }
}

async function kubectl(name: string, args: readonly string[]): Promise<number> {
  const { kubectlProgram, kubectlEnv } = await attach(name);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const child = spawn(kubectlProgram, args, {
    stdio: 'inherit',
    env: { ...process.env, ...kubectlEnv },
  });
  child.on('error', reject);
  child.on('exit', (code) => resolve(code ?? 1));
  return await promise;
}

async function build(args: readonly string[]): Promise<number> {
  const arch = args[0] === '--arch' ? needed(args[1], 'the architecture') : undefined;
  if (arch !== undefined && arch !== 'amd64' && arch !== 'arm64') {
    throw new Misuse(`--arch is amd64 or arm64, not "${arch}"`);
  }
  const named = (arch === undefined ? args : args.slice(2)).map((word): Program => {
    const found = programs.find((program) => program === word);
    if (found === undefined) throw new Misuse(`no program "${word}"; see --help`);
    return found;
  });
  const own = process.arch === 'x64' ? 'amd64' : 'arm64';
  const all = arch === undefined || arch === own ? programs : programsOfNode;
  const paths = await kubernetes(named.length > 0 ? named : all, say, arch);
  for (const path of Object.values(paths)) process.stdout.write(`${path}\n`);
  return 0;
}

async function status(): Promise<number> {
  for (const name of await list()) {
    const plane = await attach(name).catch(() => undefined);
    if (plane === undefined) {
      process.stdout.write(`${name}  broken\n`);
      continue;
    }
    process.stdout.write(`${name}  https://127.0.0.1:${plane.port}  ${plane.directory}\n`);
    for (const { component, pid, rssBytes } of await plane.parts()) {
      const state = pid === 0 ? 'ended' : `pid ${pid}  ${(rssBytes / 1e6).toFixed(0)} MB`;
      process.stdout.write(`  ${component.padEnd(23)} ${state}\n`);
    }
  }
  return 0;
}

function needed(value: string | undefined, what: string): string {
  if (value === undefined) throw new Misuse(`${what} is missing; see scripts/control-plane --help`);
  return value;
}

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(
    `control-plane: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  return error instanceof Misuse ? 2 : 1;
});
