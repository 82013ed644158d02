from ckpt_tools.cli import main

main()
