// scripts/try --here, see there.
export type TryHere = {
  readonly say: (line: string) => void;
  readonly show: (text: string) => void;
  readonly script: (name: string, ...args: string[]) => Promise<void>;
};

export async function tryHere(_: TryHere): Promise<void> {
  throw new Error('not yet');
}
