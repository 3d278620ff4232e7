/**
 * A container's environment and the `$(NAME)` references in it, in its command and its arguments.
 * Source: third_party/forked/golang/expansion, pkg/kubelet/kubelet_pods.go.
 */
import type { Container } from '../kube/pod.ts';

export type Variable = { readonly key: string; readonly value: string };
export type Variables = ReadonlyMap<string, string>;

/** Variables that do not stand in `env`, in the order in which Kubernetes lets them count. */
export type OtherVariables = {
  /** Of `envFrom`: `env` overrides them, and they can be referred to. */
  readonly from?: Variables;
  /** Of services: everything overrides them, and they can be referred to. */
  readonly service?: Variables;
};

/**
 * The environment in the order of its declaration, each name once (the last value counts). A value
 * may refer to variables that stand before it.
 */
export function containerEnvironment(
  container: Pick<Container, 'env'>,
  { from = new Map(), service = new Map() }: OtherVariables = {},
): readonly Variable[] {
  const variables = new Map(from);
  const lookUp = (name: string) => variables.get(name) ?? service.get(name);
  for (const { name, value } of container.env) variables.set(name, expand(value, lookUp));
  for (const [name, value] of service) if (!variables.has(name)) variables.set(name, value);
  return [...variables].map(([key, value]) => ({ key, value }));
}

/** Command and arguments with their references replaced. */
export function commandAndArgs(
  container: Pick<Container, 'command' | 'args'>,
  environment: readonly Variable[],
): { readonly command: readonly string[]; readonly args: readonly string[] } {
  const variables = new Map(environment.map(({ key, value }) => [key, value]));
  const expanded = (words: readonly string[] = []) =>
    words.map((word) => expand(word, (name) => variables.get(name)));
  return { command: expanded(container.command), args: expanded(container.args) };
}

/**
 * Replaces `$(NAME)`. `$$` stands for one `$`; a reference to nothing known and a `$(` without its
 * end stay as they are.
 */
export function expand(input: string, lookUp: (name: string) => string | undefined): string {
  let output = '';
  let at = 0;
  while (at < input.length) {
    const dollar = input.indexOf('$', at);
    if (dollar === -1 || dollar === input.length - 1) return output + input.slice(at);
    output += input.slice(at, dollar);
    const next = input[dollar + 1];
    const end = next === '(' ? input.indexOf(')', dollar + 2) : -1;
    if (end !== -1) {
      const name = input.slice(dollar + 2, end);
      output += lookUp(name) ?? `$(${name})`;
      at = end + 1;
    } else {
      output += next === '$' ? '$' : `$${next}`;
      at = dollar + 2;
    }
  }
  return output;
}
