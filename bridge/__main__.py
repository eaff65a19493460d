from handlers.commands.main import main

main()
