import { defineCommand } from './command.ts';

export const command = defineCommand({
  name: 'doctor',
  usage: '',
  summary: '',
  options: {},
  examples: [],
  run: async () => await Promise.resolve(1),
});
